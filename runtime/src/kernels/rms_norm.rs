//! RMS norm (Zhang and Sennrich 2019): `out[t] = x[first_row + t] / sqrt(mean(x^2) + eps) * weight`.
//!
//! Shapes: x `[>= first_row + n_tokens, d_model]`, weight `[1, d_model]`, out `[n_tokens, d_model]`; d_model a multiple of 4.

use super::{Handle, reduce};
use crate::{Gpu, Pass, Result, Tensor, pipeline::Access};
use qwgpu_shaders::Variant;

pub(crate) const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Write];

params! { vecs: u32, first_row: u32, eps: f32, inv_d: f32 }

/// The compiled kernel.
#[derive(Debug)]
pub struct RmsNorm {
    pipeline: Handle,
}

impl RmsNorm {
    /// Compiles it.
    ///
    /// # Errors
    /// When the shader does not compile.
    pub fn new(gpu: &Gpu) -> Result<Self> {
        Ok(Self {
            pipeline: gpu.pipeline(Variant::RmsNorm {
                reduce: reduce(gpu.caps(), 256),
            })?,
        })
    }

    /// Normalises rows `first_row ..` of `x` into `out`.
    ///
    /// # Panics
    /// When shapes do not fit.
    #[track_caller]
    pub fn dispatch(&self, pass: &mut Pass<'_>, x: &Tensor, first_row: usize, weight: &Tensor, eps: f32, out: &Tensor) {
        let d_model = x.cols();
        assert!(
            first_row + out.rows() <= x.rows(),
            "rms_norm: rows {first_row}+{} of {}",
            out.rows(),
            x.rows()
        );
        assert!(
            d_model == out.cols() && d_model == weight.cols() && d_model.is_multiple_of(4),
            "rms_norm: {d_model} columns"
        );
        let params = Params {
            vecs: (d_model / 4) as u32,
            first_row: first_row as u32,
            eps,
            inv_d: 1.0 / d_model as f32,
        };
        let buffers = [&*x.buffer, &weight.buffer, &out.buffer];
        pass.dispatch(&self.pipeline, &buffers, &params, [out.rows() as u32, 1, 1]);
    }
}

/// The definition, for one row.
#[must_use]
pub fn reference(x: &[f32], weight: &[f32], eps: f32) -> Vec<f64> {
    let mean = x.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>() / x.len() as f64;
    let scale = 1.0 / (mean + f64::from(eps)).sqrt();
    x.iter().zip(weight).map(|(&v, &w)| f64::from(v) * scale * f64::from(w)).collect()
}
