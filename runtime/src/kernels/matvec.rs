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

/// The workgroup for an adapter and a token count: one subgroup where it is 32 wide and more, so that no barrier waits for a second
/// one. For one token four of them, since so few sums leave room for more loads under way: on an H100 the 3584 x 18944 of 7B then
/// takes 50 us instead of 60. A CPU driver runs one workgroup a core and has nothing to gain, and without subgroups the longer sum
/// at the end would cost more.
const fn workgroup(caps: &Caps, n_tokens: u32) -> u32 {
    let one = if caps.subgroup && caps.subgroup_max >= 32 { 32 } else { 64 };
    if n_tokens == 1 && caps.subgroup && !caps.cpu {
        4 * one
    } else {
        one
    }
}

/// What a batch of `n_tokens` is compiled for: the next larger of [`MATVEC_TOKENS`].
#[track_caller]
pub(crate) fn matvec_tokens(n_tokens: usize) -> u32 {
    let enough = MATVEC_TOKENS.into_iter().find(|&n| n as usize >= n_tokens);
    enough.expect("Matmul sends at most MAX_TOKENS rows here")
}

fn pipeline(gpu: &Gpu, dtype: DType, workgroup: u32, n_tokens: u32) -> Result<Handle> {
    gpu.pipeline(Variant::Matvec {
        weights: weights_format(gpu.caps(), dtype),
        reduce: reduce(gpu.caps(), workgroup),
        n_tokens,
    })
}

/// The kernel compiled for one weight type and some token counts of [`MATVEC_TOKENS`].
#[derive(Debug)]
pub(crate) struct Matvec {
    pipelines: Vec<(u32, Handle)>,
}

impl Matvec {
    /// The kernel as models use it, for every token count.
    pub(crate) fn new(gpu: &Gpu, dtype: DType) -> Result<Self> {
        let make = |&n_tokens: &u32| Ok((n_tokens, pipeline(gpu, dtype, workgroup(gpu.caps(), n_tokens), n_tokens)?));
        Ok(Self {
            pipelines: MATVEC_TOKENS.iter().map(make).collect::<Result<_>>()?,
        })
    }

    /// The kernel for `n_tokens`, with a workgroup that models may not use here.
    pub(crate) fn with_workgroup(gpu: &Gpu, dtype: DType, workgroup: u32, n_tokens: usize) -> Result<Self> {
        let n_tokens = matvec_tokens(n_tokens);
        Ok(Self {
            pipelines: vec![(n_tokens, pipeline(gpu, dtype, workgroup, n_tokens)?)],
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
