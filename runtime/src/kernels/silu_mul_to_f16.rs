//! SwiGLU's middle straight to f16 for the matrix units: [`super::silu_mul`] and [`super::to_f16`] in one dispatch.
//!
//! Shapes: gate_up `[n_tokens, 2 d_ff]` (gate first), out as [`super::to_f16`] has it with d_ff columns; d_ff a multiple of 8. Of a
//! row it reads twice what lies behind 32,768 columns.

use qwgpu_shaders::Variant;

use super::{Handle, to_f16::Operand};
use crate::{Gpu, Pass, Result, Tensor, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[Access::Read, Access::Write, Access::Write];

params! { groups: u32 }

/// The compiled kernel.
#[derive(Debug)]
pub struct SiluMulToF16 {
    pipeline: Handle,
}

impl SiluMulToF16 {
    /// Compiles it.
    ///
    /// # Errors
    /// When the shader does not compile.
    pub fn new(gpu: &Gpu) -> Result<Self> {
        Ok(Self {
            pipeline: gpu.pipeline(Variant::SiluMulToF16)?,
        })
    }

    /// Joins gate and up of all rows of `gate_up` into `out`.
    ///
    /// # Panics
    /// When there is no room, or half the columns are not a multiple of 8.
    #[track_caller]
    pub fn dispatch(&self, pass: &mut Pass<'_>, gate_up: &Tensor, out: &Operand) {
        let d_ff = gate_up.cols() / 2;
        assert!(gate_up.cols().is_multiple_of(2), "silu_mul_to_f16: {} columns", gate_up.cols());
        out.check("silu_mul_to_f16", gate_up.rows(), d_ff);
        let params = Params { groups: (d_ff / 8) as u32 };
        let buffers = [&*gate_up.buffer, &out.values.buffer, &out.scales.buffer];
        pass.dispatch(&self.pipeline, &buffers, &params, [gate_up.rows() as u32, 1, 1]);
    }
}
