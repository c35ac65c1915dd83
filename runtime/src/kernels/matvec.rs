//! Matrix times few vectors, as in decode; [`super::matmul::Matmul`] chooses between it and the tiled kernel.
//!
//! `out[t, r] (+)= sum_k weights[r, k] * x[t, k] (+ bias[r])`. Bound by reading the weights once: bytes = rows * cols * width.

use qwgpu_shaders::{MATVEC_TOKENS, MATVEC_TOKENS_BY_ROWS, Variant, matvec_rows};

use super::{
    Handle, fold,
    matmul::Product,
    share::{Forms, Share},
    weights_format,
};
use crate::{Caps, DType, Gpu, Pass, Result, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Read, Access::Write];

params! { n_tokens: u32, groups: u32, n_rows: u32, first_out: u32, out_stride: u32, flags: u32, grid_x: u32 }

/// The largest batch that it takes on a GPU.
pub const MAX_TOKENS: usize = 8;

/// The same on CPU drivers: the tiled kernel computes 64 tokens whatever there are, and costs more than fewer of them do two at a time.
const MAX_TOKENS_ON_CPU: usize = 32;

/// The largest batch that it takes on an adapter.
pub(crate) const fn max_tokens(caps: &Caps) -> usize {
    if caps.cpu { MAX_TOKENS_ON_CPU } else { MAX_TOKENS }
}

/// The share of a workgroup for several tokens: one subgroup where it is 32 wide and more, so that no barrier waits for a second one.
const fn share_of_several(caps: &Caps, n_tokens: u32) -> Share {
    Share {
        workgroup: if caps.subgroup && caps.subgroup_max >= 32 { 32 } else { 64 },
        rows: matvec_rows(n_tokens),
    }
}

/// How many tokens a workgroup takes at once of a batch of `n_tokens`: by columns the next larger number that there is a form for, by rows
/// one or two.
fn at_once(n_tokens: usize, share: Share) -> u32 {
    let forms = if share.is_by_rows() {
        &MATVEC_TOKENS_BY_ROWS[..]
    } else {
        &MATVEC_TOKENS
    };
    let enough = forms.iter().find(|&&n| n as usize >= n_tokens);
    *enough.unwrap_or(&forms[forms.len() - 1])
}

fn pipeline(gpu: &Gpu, dtype: DType, share: Share, n_tokens: u32) -> Result<Handle> {
    gpu.pipeline(Variant::Matvec {
        weights: weights_format(gpu.caps(), dtype),
        split: share.split(gpu.caps()),
        n_tokens,
        rows: share.rows,
    })
}

/// The kernel compiled for one weight type: by how many tokens it takes at once, in ascending order.
#[derive(Debug)]
pub(crate) struct Matvec {
    forms: Vec<(u32, Forms)>,
}

impl Matvec {
    /// The kernel as models use it, for every token count.
    pub(crate) fn new(gpu: &Gpu, dtype: DType) -> Result<Self> {
        let caps = gpu.caps();
        let forms = |n_tokens| {
            if n_tokens == 1 || caps.cpu {
                return Forms::new(caps, dtype, 1, |share| pipeline(gpu, dtype, share, n_tokens));
            }
            let share = share_of_several(caps, n_tokens);
            Ok(Forms::only(share, pipeline(gpu, dtype, share, n_tokens)?))
        };
        let tokens = if caps.cpu { &MATVEC_TOKENS_BY_ROWS[..] } else { &MATVEC_TOKENS };
        let make = |&n_tokens| Ok((n_tokens, forms(n_tokens)?));
        Ok(Self {
            forms: tokens.iter().map(make).collect::<Result<_>>()?,
        })
    }

    /// The kernel for `n_tokens`, shared out as models may not do it here.
    pub(crate) fn with_share(gpu: &Gpu, dtype: DType, share: Share, n_tokens: usize) -> Result<Self> {
        let n_tokens = at_once(n_tokens, share);
        Ok(Self {
            forms: vec![(n_tokens, Forms::only(share, pipeline(gpu, dtype, share, n_tokens)?))],
        })
    }

    /// The form for a batch: the smallest that takes it whole, else the largest.
    fn form(&self, n_tokens: usize) -> &(u32, Forms) {
        let whole = self.forms.iter().find(|(n, _)| *n as usize >= n_tokens);
        whole.or(self.forms.last()).expect("Matmul compiles what it dispatches")
    }

    pub(crate) fn dispatch(&self, pass: &mut Pass<'_>, p: &Product<'_>) {
        let n_tokens = p.out.rows();
        let (at_once, forms) = self.form(n_tokens);
        let (share, pipeline) = forms.of([p.weights.rows(), p.weights.cols()]);
        for part in &p.weights.parts {
            let [grid_x, grid_y, _] = fold(pass.gpu(), part.n_rows.div_ceil(share.rows as usize));
            let params = Params {
                n_tokens: n_tokens as u32,
                groups: (p.weights.cols() / 8) as u32,
                n_rows: part.n_rows as u32,
                first_out: part.first_row as u32,
                out_stride: p.out.cols() as u32,
                flags: p.flags(),
                grid_x,
            };
            let tiles = n_tokens.div_ceil(*at_once as usize) as u32;
            pass.dispatch(pipeline, &p.buffers(part), &params, [grid_x, grid_y, tiles]);
        }
    }
}
