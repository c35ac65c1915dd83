//! Quantised matrix times one vector of bytes from [`super::quantize`], with integer dot products.
//!
//! `out[r] (+)= sum_k weights[r, k] * x[k] (+ bias[r])`, x as its bytes have it: against the unquantised x, each of its elements is off
//! by up to half a step, a 254th of the largest of its block. Shapes: weights `[rows, cols]` in q8 or q4, bias and out `[1, rows]`.

use qwgpu_shaders::Variant;

use super::{
    Handle, fold,
    matmul::Product,
    quantize::{self, Bytes},
    reduce, weights_format,
};
use crate::{BLOCK, DType, Gpu, Pass, Result, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Write];

params! { blocks: u32, n_rows: u32, first_out: u32, flags: u32, grid_x: u32 }

/// The kernel compiled for one weight type.
#[derive(Debug)]
pub struct MatvecDot {
    pipeline: Handle,
    rows: u32,
}

impl MatvecDot {
    /// Compiles it with so many invocations and rows to a workgroup, of `MATVEC_DOT_WORKGROUPS` and `MATVEC_DOT_ROWS`.
    ///
    /// # Errors
    /// When the shader does not compile.
    ///
    /// # Panics
    /// For a weight type that is not quantised.
    #[track_caller]
    pub fn new(gpu: &Gpu, dtype: DType, workgroup: u32, rows: u32) -> Result<Self> {
        assert!(dtype.is_quantised(), "matvec_dot: {dtype} weights");
        let variant = Variant::MatvecDot {
            weights: weights_format(gpu.caps(), dtype),
            reduce: reduce(gpu.caps(), workgroup),
            rows,
        };
        Ok(Self {
            pipeline: gpu.pipeline(variant)?,
            rows,
        })
    }

    /// The product's one row, with `bytes` in place of its x.
    ///
    /// # Panics
    /// When shapes do not fit.
    #[track_caller]
    pub fn dispatch(&self, pass: &mut Pass<'_>, p: &Product<'_>, bytes: &Bytes) {
        p.check();
        assert!(
            p.out.rows() == 1 && p.weights.cols() <= bytes.room(),
            "matvec_dot: {} rows of {} columns",
            p.out.rows(),
            p.weights.cols()
        );
        let bias = p.bias.unwrap_or(&bytes.block_scales);
        let others = [&bytes.bytes.buffer, &bytes.block_scales.buffer, &bias.buffer, &p.out.buffer].map(|buffer| &**buffer);
        for part in &p.weights.parts {
            let grid = fold(pass.gpu(), part.n_rows.div_ceil(self.rows as usize));
            let params = Params {
                blocks: (p.weights.cols() / BLOCK) as u32,
                n_rows: part.n_rows as u32,
                first_out: part.first_row as u32,
                flags: p.flags(),
                grid_x: grid[0],
            };
            pass.dispatch(&self.pipeline, &part.bind(&others), &params, grid);
        }
    }
}

/// The definition of one output before the epilogue, and how far ties in the quantisation of x may take it.
#[must_use]
pub fn reference(weights_row: &[f32], x: &[quantize::Block]) -> (f64, f64) {
    let (mut sum, mut doubt) = (0.0, 0.0);
    for (weights, block) in weights_row.chunks_exact(BLOCK).zip(x) {
        let products = weights.iter().zip(block.q).map(|(&w, q)| f64::from(w) * f64::from(q));
        sum += block.d * products.sum::<f64>();
        doubt += block.ties.iter().map(|&k| block.d * f64::from(weights[k]).abs()).sum::<f64>();
    }
    (sum, doubt)
}
