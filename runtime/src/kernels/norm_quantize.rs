//! One token's RMS norm straight to signed bytes in blocks of 32: [`super::rms_norm`] and [`super::quantize`] in one dispatch.
//!
//! Shapes: x and norm `[1, cols]`, out as [`super::quantize`] has it, and the scales once more behind the bytes.

use qwgpu_shaders::Variant;

use super::{Handle, quantize::Bytes, reduce};
use crate::{BLOCK, Gpu, Pass, Result, Tensor, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Write, Access::Write];

params! { n_blocks: u32, eps: f32, inv_d: f32, scales_at: u32 }

/// The compiled kernel.
#[derive(Debug)]
pub struct NormQuantize {
    pipeline: Handle,
}

impl NormQuantize {
    /// Compiles it.
    ///
    /// # Errors
    /// When the shader does not compile.
    pub fn new(gpu: &Gpu) -> Result<Self> {
        let reduce = reduce(gpu.caps(), 256);
        Ok(Self {
            pipeline: gpu.pipeline(Variant::NormQuantize { reduce })?,
        })
    }

    /// Normalises and quantises the first row of x.
    ///
    /// # Panics
    /// When its columns are not a multiple of 32, not those of `norm`, or more than `out` has room for.
    #[track_caller]
    pub fn dispatch(&self, pass: &mut Pass<'_>, x: &Tensor, norm: &Tensor, eps: f32, out: &Bytes) {
        let cols = x.cols();
        assert!(
            cols.is_multiple_of(BLOCK) && cols == norm.cols() && cols <= out.room(),
            "norm_quantize: {cols} columns, weights of {}, room for {}",
            norm.cols(),
            out.room()
        );
        let params = Params {
            n_blocks: (cols / BLOCK) as u32,
            eps,
            inv_d: 1.0 / cols as f32,
            scales_at: out.scales_at() as u32,
        };
        let buffers = [&*x.buffer, &norm.buffer, &out.bytes.buffer, &out.block_scales.buffer];
        pass.dispatch(&self.pipeline, &buffers, &params, [1, 1, 1]);
    }
}
