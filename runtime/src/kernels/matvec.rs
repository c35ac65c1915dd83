//! Matrix times 1 to 8 vectors, as in decode; [`super::matmul::Matmul`] chooses between it and the tiled kernel.
//!
//! `out[t, r] (+)= sum_k weights[r, k] * x[t, k] (+ bias[r])`. Bound by reading the weights once: bytes = rows * cols * width.

use qwgpu_shaders::{MATVEC_TOKENS, Variant, matvec_rows};

use super::{
    Handle, fold,
    matmul::Product,
    share::{Forms, Share},
    weights_format,
};
use crate::{Caps, DType, Gpu, Pass, Result, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Read, Access::Write];

params! { n_tokens: u32, groups: u32, n_rows: u32, first_out: u32, out_stride: u32, flags: u32, grid_x: u32 }

/// The largest batch it takes.
pub const MAX_TOKENS: usize = 8;

/// The share of a workgroup for several tokens: one subgroup where it is 32 wide and more, so that no barrier waits for a second one.
const fn share_of_several(caps: &Caps, n_tokens: u32) -> Share {
    Share {
        workgroup: if caps.subgroup && caps.subgroup_max >= 32 { 32 } else { 64 },
        rows: matvec_rows(n_tokens),
    }
}

/// What a batch of `n_tokens` is compiled for: the next larger of [`MATVEC_TOKENS`].
#[track_caller]
pub(crate) fn matvec_tokens(n_tokens: usize) -> u32 {
    let enough = MATVEC_TOKENS.into_iter().find(|&n| n as usize >= n_tokens);
    enough.expect("Matmul sends at most MAX_TOKENS rows here")
}

fn pipeline(gpu: &Gpu, dtype: DType, share: Share, n_tokens: u32) -> Result<Handle> {
    gpu.pipeline(Variant::Matvec {
        weights: weights_format(gpu.caps(), dtype),
        reduce: share.reduce(gpu.caps()),
        n_tokens,
        rows: share.rows,
    })
}

/// The kernel compiled for one weight type and some token counts of [`MATVEC_TOKENS`].
#[derive(Debug)]
pub(crate) struct Matvec {
    forms: Vec<(u32, Forms)>,
}

impl Matvec {
    /// The kernel as models use it, for every token count.
    pub(crate) fn new(gpu: &Gpu, dtype: DType) -> Result<Self> {
        let caps = gpu.caps();
        let forms = |n_tokens| match n_tokens {
            1 => Forms::new(caps, dtype, 1, |share| pipeline(gpu, dtype, share, 1)),
            _ => {
                let share = share_of_several(caps, n_tokens);
                Ok(Forms::only(share, pipeline(gpu, dtype, share, n_tokens)?))
            }
        };
        let make = |n_tokens| Ok((n_tokens, forms(n_tokens)?));
        Ok(Self {
            forms: MATVEC_TOKENS.into_iter().map(make).collect::<Result<_>>()?,
        })
    }

    /// The kernel for `n_tokens`, shared out as models may not do it here.
    pub(crate) fn with_share(gpu: &Gpu, dtype: DType, share: Share, n_tokens: usize) -> Result<Self> {
        let n_tokens = matvec_tokens(n_tokens);
        Ok(Self {
            forms: vec![(n_tokens, Forms::only(share, pipeline(gpu, dtype, share, n_tokens)?))],
        })
    }

    pub(crate) fn dispatch(&self, pass: &mut Pass<'_>, p: &Product<'_>) {
        let n_tokens = p.out.rows();
        let compiled_for = matvec_tokens(n_tokens);
        let forms = self.forms.iter().find(|(n, _)| *n == compiled_for);
        let (_, forms) = forms.expect("Matmul compiles what it dispatches");
        let (share, pipeline) = forms.of([p.weights.rows(), p.weights.cols()]);
        for part in &p.weights.parts {
            let grid = fold(pass.gpu(), part.n_rows.div_ceil(share.rows as usize));
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
