//! The second half of one token's experts: `out[r] += sum over slots of factor * (down_e[r] . hidden[slot])`, e the expert of the slot.
//!
//! Slots below k are the chosen experts with their factors, by rank; the slices of the shared expert follow, all with the last factor.
//! Shapes: experts `[(n_experts + n_shared) * d_model, f]`, hidden `[k + n_shared, f]`, chosen u32 `[1, k]`, factors `[1, k + 1]`, out
//! `[1, d_model]`. Bound by reading the weights of the slots' experts once.

use qwgpu_shaders::Variant;

use super::{
    Handle, PerDType, fold, matmul,
    share::{Forms, Share},
    slots::Stack,
    weights_format,
};
use crate::{DType, Gpu, Matrix, Pass, Result, Tensor, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Write];

params! {
    groups: u32, n_slots: u32, k: u32, n_experts: u32, first_expert: u32, n_here: u32, n_rows: u32, grid_x: u32,
}

/// The compiled kernel.
#[derive(Debug)]
pub struct ExpertsDown {
    forms: PerDType<Forms>,
}

/// The operands of a dispatch.
#[derive(Clone, Copy, Debug)]
pub struct Down<'a> {
    /// `[(n_experts + n_shared) * d_model, f]`, made by [`Matrix::stack`].
    pub experts: &'a Matrix,
    /// Experts that are chosen from.
    pub n_experts: usize,
    /// Slices of the shared expert, behind them.
    pub n_shared: usize,
    /// What [`super::experts_gate_up`] has left, `[k + n_shared, f]`.
    pub hidden: &'a Tensor,
    /// Ids below n_experts, u32 `[1, k]`.
    pub chosen: &'a Tensor,
    /// `[1, k + 1]`, the last one that of every slice of the shared expert.
    pub factors: &'a Tensor,
    /// What is added to, `[1, d_model]`.
    pub out: &'a Tensor,
}

impl<'a> Down<'a> {
    pub(crate) const fn stack(&self) -> Stack<'a> {
        Stack {
            matrix: self.experts,
            n_experts: self.n_experts,
            n_shared: self.n_shared,
            rows_each: self.out.cols(),
        }
    }

    /// Panics for `kernel` unless the shapes fit. Gives the number of slots.
    #[track_caller]
    pub(crate) fn check(&self, kernel: &str) -> usize {
        let n_slots = self.stack().slots_of(kernel, self.chosen);
        let (hidden, d_ff) = (self.hidden, self.experts.cols());
        assert_eq!((hidden.rows(), hidden.cols()), (n_slots, d_ff), "{kernel}: shape of hidden");
        let k = self.chosen.cols();
        assert_eq!((self.factors.cols(), self.out.rows()), (k + 1, 1), "{kernel}: factors, rows of out");
        n_slots
    }
}

fn pipeline(gpu: &Gpu, dtype: DType, share: Share) -> Result<Handle> {
    gpu.pipeline(Variant::ExpertsDown {
        weights: weights_format(gpu.caps(), dtype),
        split: share.split(gpu.caps()),
        rows: share.rows,
    })
}

impl ExpertsDown {
    /// Compiles it for these weight types.
    ///
    /// # Errors
    /// When a shader does not compile.
    pub fn new(gpu: &Gpu, dtypes: &[DType]) -> Result<Self> {
        Ok(Self {
            forms: PerDType::by_table(gpu, dtypes, 1, pipeline)?,
        })
    }

    /// Compiles one form, whatever suits the adapter: the way tests reach each.
    ///
    /// # Errors
    /// As [`ExpertsDown::new`].
    pub fn with_share(gpu: &Gpu, dtype: DType, share: Share) -> Result<Self> {
        Ok(Self {
            forms: PerDType::only(gpu, &[dtype], share, pipeline)?,
        })
    }

    /// Adds to `out`, once for each part of the stack: the slots whose experts lie there.
    ///
    /// # Panics
    /// When shapes do not fit, or a part of the matrix cuts an expert.
    #[track_caller]
    pub fn dispatch(&self, pass: &mut Pass<'_>, d: &Down<'_>) {
        let n_slots = d.check("experts_down");
        let (d_model, d_ff) = (d.out.cols(), d.experts.cols());
        let forms = self.forms.get(d.experts.dtype());
        let (share, pipeline) = forms.of([d_model, n_slots * d_ff]);
        let grid = fold(pass.gpu(), d_model.div_ceil(share.rows as usize));
        for here in d.stack().parts() {
            let params = Params {
                groups: (d_ff / 8) as u32,
                n_slots: n_slots as u32,
                k: d.chosen.cols() as u32,
                n_experts: d.n_experts as u32,
                first_expert: here.first_expert,
                n_here: here.n_here,
                n_rows: d_model as u32,
                grid_x: grid[0],
            };
            let tensors = [d.hidden, d.chosen, d.factors, d.out];
            let buffers = here.part.bind(&tensors.map(|tensor| &*tensor.buffer));
            pass.dispatch(pipeline, &buffers, &params, grid);
        }
    }
}

/// The definition of what is added to one output: for each slot its factor, the row of its expert and its hidden activations.
#[must_use]
pub fn reference<'a>(slots: impl IntoIterator<Item = (f32, &'a [f32], &'a [f32])>) -> f64 {
    let slot = |(factor, row, hidden)| f64::from(factor) * matmul::reference(row, hidden);
    slots.into_iter().map(slot).sum()
}
