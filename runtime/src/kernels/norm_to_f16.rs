//! RMS norm straight to f16 for the matrix units: [`super::rms_norm`] and [`super::to_f16`] in one dispatch.
//!
//! Shapes: x `[n_tokens, cols]`, weight `[1, cols]`, out as [`super::to_f16`] has it; cols a multiple of 8.

use qwgpu_shaders::Variant;

use super::{Handle, reduce, to_f16::Operand};
use crate::{Gpu, Pass, Result, Tensor, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Write, Access::Write];

params! { groups: u32, eps: f32, inv_d: f32 }

/// The compiled kernel.
#[derive(Debug)]
pub struct NormToF16 {
    pipeline: Handle,
}

impl NormToF16 {
    /// Compiles it.
    ///
    /// # Errors
    /// When the shader does not compile.
    pub fn new(gpu: &Gpu) -> Result<Self> {
        let reduce = reduce(gpu.caps(), 256);
        Ok(Self {
            pipeline: gpu.pipeline(Variant::NormToF16 { reduce })?,
        })
    }

    /// Normalises all rows of `x` into `out`.
    ///
    /// # Panics
    /// When there is no room, or the columns are not a multiple of 8, or not those of `weight`.
    #[track_caller]
    pub fn dispatch(&self, pass: &mut Pass<'_>, x: &Tensor, weight: &Tensor, eps: f32, out: &Operand) {
        let cols = x.cols();
        assert_eq!(cols, weight.cols(), "norm_to_f16: columns of x and weights");
        out.check("norm_to_f16", x.rows(), cols);
        let params = Params {
            groups: (cols / 8) as u32,
            eps,
            inv_d: 1.0 / cols as f32,
        };
        let buffers = [&*x.buffer, &weight.buffer, &out.values.buffer, &out.scales.buffer];
        pass.dispatch(&self.pipeline, &buffers, &params, [x.rows() as u32, 1, 1]);
    }
}
