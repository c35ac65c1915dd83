//! The first half of one token's experts in one dispatch: `out[slot] = silu(gate_e n) * (up_e n)` with e the expert of the slot and
//! `n = x / sqrt(mean(x^2) + eps) * norm`.
//!
//! Slots below k are the chosen experts, by rank; the slices of the shared expert follow. Shapes: experts
//! `[(n_experts + n_shared) * 2 f, d_model]` (of each expert gate first, then up), x and norm `[1, d_model]`, chosen u32 `[1, k]`, out
//! `[k + n_shared, f]`.

use qwgpu_shaders::Variant;

use super::{
    Handle, PerDType, fold,
    share::{Forms, Share},
    slots::Stack,
    weights_format,
};
use crate::{DType, Gpu, Matrix, Pass, Result, Tensor, pipeline::Access};

pub use super::norm_gate_up::reference;

pub(crate) const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Write];

params! {
    groups: u32, d_ff: u32, k: u32, n_experts: u32, first_expert: u32, n_here: u32, eps: f32, inv_d: f32, grid_x: u32,
}

/// A row of gate and its row of up.
const PAIR: u32 = 2;

/// The compiled kernel.
#[derive(Debug)]
pub struct ExpertsGateUp {
    forms: PerDType<Forms>,
}

/// The operands of a dispatch.
#[derive(Clone, Copy, Debug)]
pub struct GateUp<'a> {
    /// `[(n_experts + n_shared) * 2 f, d_model]`, made by [`Matrix::stack`].
    pub experts: &'a Matrix,
    /// Experts that are chosen from.
    pub n_experts: usize,
    /// Slices of the shared expert, behind them.
    pub n_shared: usize,
    /// The residual stream, `[1, d_model]`.
    pub x: &'a Tensor,
    /// Weights of the norm before the experts, `[1, d_model]`.
    pub norm: &'a Tensor,
    /// What the norm adds to the mean of the squares.
    pub eps: f32,
    /// Ids below n_experts, u32 `[1, k]`.
    pub chosen: &'a Tensor,
    /// Receives the result, `[k + n_shared, f]`.
    pub out: &'a Tensor,
}

impl<'a> GateUp<'a> {
    pub(crate) const fn stack(&self) -> Stack<'a> {
        Stack {
            matrix: self.experts,
            n_experts: self.n_experts,
            n_shared: self.n_shared,
            rows_each: 2 * self.out.cols(),
        }
    }

    /// Panics for `kernel` unless the shapes fit. Gives the number of slots.
    #[track_caller]
    pub(crate) fn check(&self, kernel: &str) -> usize {
        let n_slots = self.stack().slots_of(kernel, self.chosen);
        let d_model = self.experts.cols();
        assert_eq!(self.out.rows(), n_slots, "{kernel}: rows of out");
        assert_eq!(
            (self.x.rows(), self.x.cols(), self.norm.cols()),
            (1, d_model, d_model),
            "{kernel}: shape of x"
        );
        n_slots
    }
}

fn pipeline(gpu: &Gpu, dtype: DType, share: Share) -> Result<Handle> {
    gpu.pipeline(Variant::ExpertsGateUp {
        weights: weights_format(gpu.caps(), dtype),
        split: share.split(gpu.caps()),
        rows: share.rows,
    })
}

impl ExpertsGateUp {
    /// Compiles it for these weight types.
    ///
    /// # Errors
    /// When a shader does not compile.
    pub fn new(gpu: &Gpu, dtypes: &[DType]) -> Result<Self> {
        Ok(Self {
            forms: PerDType::by_table(gpu, dtypes, PAIR, pipeline)?,
        })
    }

    /// Compiles one form, whatever suits the adapter: the way tests reach each.
    ///
    /// # Errors
    /// As [`ExpertsGateUp::new`].
    pub fn with_share(gpu: &Gpu, dtype: DType, share: Share) -> Result<Self> {
        Ok(Self {
            forms: PerDType::only(gpu, &[dtype], share, pipeline)?,
        })
    }

    /// Computes `out`, once for each part of the stack: the slots whose experts lie there.
    ///
    /// # Panics
    /// When shapes do not fit, or a part of the matrix cuts an expert.
    #[track_caller]
    pub fn dispatch(&self, pass: &mut Pass<'_>, g: &GateUp<'_>) {
        let n_slots = g.check("experts_gate_up");
        let (d_model, d_ff) = (g.experts.cols(), g.out.cols());
        let (share, pipeline) = self.forms.get(g.experts.dtype()).of([2 * d_ff * n_slots, d_model]);
        let [grid_x, grid_y, _] = fold(pass.gpu(), d_ff.div_ceil((share.rows / PAIR) as usize));
        for here in g.stack().parts() {
            let params = Params {
                groups: (d_model / 8) as u32,
                d_ff: d_ff as u32,
                k: g.chosen.cols() as u32,
                n_experts: g.n_experts as u32,
                first_expert: here.first_expert,
                n_here: here.n_here,
                eps: g.eps,
                inv_d: 1.0 / d_model as f32,
                grid_x,
            };
            let buffers = here.part.bind(&[&g.x.buffer, &g.norm.buffer, &g.chosen.buffer, &g.out.buffer]);
            pass.dispatch(pipeline, &buffers, &params, [grid_x, grid_y, n_slots as u32]);
        }
    }
}
