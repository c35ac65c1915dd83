//! SwiGLU's middle (Shazeer 2020): `out = silu(gate) * up`, `silu(x) = x / (1 + e^-x)`.
//!
//! Shapes: gate_up `[n_tokens, 2 d_ff]` (gate first), out `[n_tokens, d_ff]`; d_ff a multiple of 4.

use qwgpu_shaders::Variant;

use super::Handle;
use crate::{Gpu, Pass, Result, Tensor, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[Access::Read, Access::Write];

params! { vecs: u32 }

/// The compiled kernel.
#[derive(Debug)]
pub struct SiluMul {
    pipeline: Handle,
}

impl SiluMul {
    /// Compiles it.
    ///
    /// # Errors
    /// When the shader does not compile.
    pub fn new(gpu: &Gpu) -> Result<Self> {
        Ok(Self {
            pipeline: gpu.pipeline(Variant::SiluMul)?,
        })
    }

    /// Joins gate and up of `out.rows()` rows.
    ///
    /// # Panics
    /// When shapes do not fit.
    #[track_caller]
    pub fn dispatch(&self, pass: &mut Pass<'_>, gate_up: &Tensor, out: &Tensor) {
        assert!(gate_up.cols() == 2 * out.cols() && gate_up.rows() >= out.rows(), "silu_mul: shapes");
        assert!(out.cols().is_multiple_of(4), "silu_mul: {} columns", out.cols());
        let vecs = (out.cols() / 4) as u32;
        pass.dispatch(
            &self.pipeline,
            &[&gate_up.buffer, &out.buffer],
            &Params { vecs },
            [vecs.div_ceil(64), out.rows() as u32, 1],
        );
    }
}

/// The definition, for one element.
#[must_use]
pub fn reference(gate: f32, up: f32) -> f64 {
    silu(f64::from(gate)) * f64::from(up)
}

/// The sigmoid linear unit (Elfwing et al. 2018).
#[must_use]
pub fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}
