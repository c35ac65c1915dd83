//! Matrix times 1 to 8 vectors, as in decode; [`super::matmul::Matmul`] chooses between it and the tiled kernel.
//!
//! `out[t, r] (+)= sum_k weights[r, k] * x[t, k] (+ bias[r])`. Bound by reading the weights once: bytes = rows * cols * width.

use qwgpu_shaders::{MATVEC_TOKENS, Variant, matvec_rows};

use super::{Handle, fold, matmul::Product, reduce, weights_format};
use crate::{Caps, DType, Gpu, Pass, Result, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Read, Access::Write];

params! { n_tokens: u32, groups: u32, n_rows: u32, first_out: u32, out_stride: u32, flags: u32, grid_x: u32 }

/// The largest batch it takes.
pub const MAX_TOKENS: usize = 8;

/// The workgroup for an adapter: one subgroup where it is 32 wide and more, so that no barrier waits for a second one.
pub(crate) const fn preferred_workgroup(caps: &Caps) -> u32 {
    if caps.subgroup && caps.subgroup_max >= 32 { 32 } else { 64 }
}

/// What a batch of `n_tokens` is compiled for: the next larger of [`MATVEC_TOKENS`].
#[track_caller]
pub(crate) fn matvec_tokens(n_tokens: usize) -> u32 {
    let enough = MATVEC_TOKENS.into_iter().find(|&n| n as usize >= n_tokens);
    enough.expect("Matmul sends at most MAX_TOKENS rows here")
}

/// The kernel compiled for one weight type and some token counts of [`MATVEC_TOKENS`].
#[derive(Debug)]
pub(crate) struct Matvec {
    pipelines: Vec<(u32, Handle)>,
}

impl Matvec {
    pub(crate) fn new(gpu: &Gpu, dtype: DType, workgroup: u32, token_counts: &[u32]) -> Result<Self> {
        let weights = weights_format(gpu.caps(), dtype);
        let make = |&n_tokens: &u32| {
            let pipeline = gpu.pipeline(Variant::Matvec {
                weights,
                reduce: reduce(gpu.caps(), workgroup),
                n_tokens,
            })?;
            Ok((n_tokens, pipeline))
        };
        Ok(Self {
            pipelines: token_counts.iter().map(make).collect::<Result<_>>()?,
        })
    }

    pub(crate) fn dispatch(&self, pass: &mut Pass<'_>, p: &Product<'_>) {
        let n_tokens = p.out.rows();
        let compiled_for = matvec_tokens(n_tokens);
        let (_, pipeline) = self
            .pipelines
            .iter()
            .find(|(n, _)| *n == compiled_for)
            .expect("Matmul compiles what it dispatches");
        let rows_per_workgroup = matvec_rows(compiled_for) as usize;
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
            pass.dispatch(pipeline, &p.buffers(part), &params, grid);
        }
    }
}
