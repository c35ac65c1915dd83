//! Matrix times 1 to 8 vectors, as in decode; [`super::matmul::Matmul`] chooses between it and the tiled kernel.
//!
//! `out[t, r] (+)= sum_k weights[r, k] * x[t, k] (+ bias[r])`. Bound by reading the weights once: bytes = rows * cols * width.

use qwgpu_shaders::{MATVEC_TOKENS, Variant, matvec_rows};

use super::{Handle, fold, matmul::Product, reduce, weights_format};
use crate::{DType, Gpu, Pass, Result, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Read, Access::Write];

params! { n_tokens: u32, groups: u32, n_rows: u32, first_out: u32, out_stride: u32, flags: u32, grid_x: u32 }

/// The largest batch it takes.
pub const MAX_TOKENS: usize = 8;

/// The kernel compiled for one weight type and each token count of [`MATVEC_TOKENS`].
#[derive(Debug)]
pub(crate) struct Matvec {
    pipelines: Vec<Handle>,
}

impl Matvec {
    pub(crate) fn new(gpu: &Gpu, dtype: DType) -> Result<Self> {
        // one subgroup where it is 32 wide and more, so that no barrier waits for a second one
        let workgroup = if gpu.caps().subgroup && gpu.caps().subgroup_max >= 32 {
            32
        } else {
            64
        };
        let weights = weights_format(gpu.caps(), dtype);
        let make = |n_tokens| {
            gpu.pipeline(Variant::Matvec {
                weights,
                reduce: reduce(gpu.caps(), workgroup),
                n_tokens,
            })
        };
        Ok(Self {
            pipelines: MATVEC_TOKENS.into_iter().map(make).collect::<Result<_>>()?,
        })
    }

    pub(crate) fn dispatch(&self, pass: &mut Pass<'_>, p: &Product<'_>) {
        let n_tokens = p.out.rows();
        let i = MATVEC_TOKENS
            .iter()
            .position(|&n| n as usize >= n_tokens)
            .expect("Matmul sends at most MAX_TOKENS rows here");
        let rows_per_workgroup = matvec_rows(MATVEC_TOKENS[i]) as usize;
        for part in &p.weights.parts {
            let grid = fold(pass.gpu(), part.n_rows.div_ceil(rows_per_workgroup));
            let params = Params {
                n_tokens: n_tokens as u32,
                groups: (p.weights.cols() / 8) as u32,
                n_rows: part.n_rows as u32,
                first_out: part.first_row as u32,
                out_stride: p.out.cols() as u32,
                flags: p.flags(),
                grid_x: grid[0],
            };
            pass.dispatch(&self.pipelines[i], &p.buffers(part), &params, grid);
        }
    }
}
