//! The first half of one token's feed-forward with quantised weights, and its result in bytes: what [`super::norm_quantize`],
//! [`super::gate_up_dot`] or [`super::experts_gate_up_dot`] and [`super::quantize`] do, in one dispatch, for adapters whose subgroups hold
//! a team.
//!
//! Shapes: x and norm `[1, d_model]`; the stack of experts `[n, 2 d_ff, d_model]`, gate first, in q8 or q4; the result in bytes,
//! `[n_slots, d_ff]`. A dense network is a stack of one with one slot.

use qwgpu_shaders::Variant;

use super::{Handle, PerDType, experts_gate_up::GateUp, fold, has_teams, quantize::Bytes, weights_format};
use crate::{BLOCK, DType, Gpu, Matrix, Pass, Result, Tensor, matrix::Part, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Write, Access::Write];

params! {
    blocks: u32, d_ff: u32, k: u32, n_experts: u32, first_expert: u32, n_here: u32, grid_x: u32, eps: f32,
    inv_d: f32,
}

/// What the kernel normalises.
#[derive(Clone, Copy, Debug)]
pub struct Normed<'a> {
    /// The residual stream, `[1, d_model]`.
    pub x: &'a Tensor,
    /// The norm's weights, `[1, d_model]`.
    pub norm: &'a Tensor,
    /// What the norm adds to the mean of the squares.
    pub eps: f32,
}

/// The compiled kernel.
#[derive(Debug)]
pub struct GateUpBytes {
    pipelines: PerDType<Handle>,
}

/// What a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// A dense network.
    Dense,
    /// A mixture of experts, which has several times as many workgroups.
    Experts,
}

/// Whether the first weights are fetched before x is normalised. An H100 takes 7B in q8 in 9 % less time a token with it, and 57B-A14B
/// in q4 in 4 %, but 7B in q4, whose workgroups otherwise fit in at once, in 3 % more.
const fn ahead(dtype: DType, of: Of) -> bool {
    !matches!((dtype, of), (DType::Q4, Of::Dense))
}

impl GateUpBytes {
    /// The most columns for which it pays. A team walks over the blocks of eight rows by itself: an H100 takes 7B's 3584 columns in less
    /// time than in two dispatches, and 72B's 8192 in more. Besides, an invocation holds no more than 16 of them.
    pub const MOST_COLUMNS: usize = 4096;

    /// Compiles it for those of these weight types that are quantised. Where subgroups hold no team, teams add up through workgroup memory:
    /// for tests, since two dispatches are faster then.
    ///
    /// # Errors
    /// When a shader does not compile.
    pub fn new(gpu: &Gpu, dtypes: &[DType], of: Of) -> Result<Self> {
        let quantised: Vec<DType> = dtypes.iter().copied().filter(|dtype| dtype.is_quantised()).collect();
        let pipeline = |dtype| {
            gpu.pipeline(Variant::GateUpBytes {
                weights: weights_format(gpu.caps(), dtype),
                ahead: ahead(dtype, of),
                subgroup: has_teams(gpu.caps()),
            })
        };
        Ok(Self {
            pipelines: PerDType::new(&quantised, pipeline)?,
        })
    }

    /// A dense network's: `weights` `[2 d_ff, d_model]` in one part, from the residual stream into `hidden`.
    ///
    /// # Panics
    /// When shapes do not fit, or the matrix is split.
    #[track_caller]
    pub fn dispatch(&self, pass: &mut Pass<'_>, weights: &Matrix, x: Normed<'_>, hidden: &Bytes) {
        let [part] = weights.parts.as_slice() else {
            panic!("gate_up_bytes: a matrix of {} parts", weights.parts.len())
        };
        let d_ff = weights.rows() / 2;
        let params = params(weights, d_ff, &x);
        // no slot is chosen: that binding is filled with x, which the kernel does not read as such
        self.part(pass, (weights, part), x, x.x, (hidden, 1, d_ff), params);
    }

    /// A mixture's, once for each part of the stack; the result goes into `hidden`, and of `g.out` only the shape counts.
    ///
    /// # Panics
    /// When shapes do not fit, or a part of the matrix cuts an expert.
    #[track_caller]
    pub fn dispatch_experts(&self, pass: &mut Pass<'_>, g: &GateUp<'_>, hidden: &Bytes) {
        let n_slots = g.check("gate_up_bytes");
        let d_ff = g.out.cols();
        let x = Normed {
            x: g.x,
            norm: g.norm,
            eps: g.eps,
        };
        for here in g.stack().parts() {
            let params = Params {
                k: g.chosen.cols() as u32,
                n_experts: g.n_experts as u32,
                first_expert: here.first_expert,
                n_here: here.n_here,
                ..params(g.experts, d_ff, &x)
            };
            self.part(pass, (g.experts, here.part), x, g.chosen, (hidden, n_slots, d_ff), params);
        }
    }

    #[track_caller]
    fn part(
        &self,
        pass: &mut Pass<'_>,
        (weights, part): (&Matrix, &Part),
        x: Normed<'_>,
        chosen: &Tensor,
        (hidden, n_slots, d_ff): (&Bytes, usize, usize),
        params: Params,
    ) {
        let cols = weights.cols();
        assert!(
            cols <= Self::MOST_COLUMNS && (x.x.cols(), x.norm.cols()) == (cols, cols),
            "gate_up_bytes: {cols} columns of a matrix, {} of x, {} of its norm",
            x.x.cols(),
            x.norm.cols()
        );
        assert!(
            d_ff.is_multiple_of(BLOCK) && n_slots * d_ff <= hidden.room(),
            "gate_up_bytes: {n_slots} x {d_ff} outputs into {}",
            hidden.room()
        );
        let [grid_x, grid_y, _] = fold(pass.gpu(), d_ff / BLOCK);
        let tensors = [x.x, x.norm, chosen, &hidden.bytes, &hidden.block_scales];
        let buffers = part.bind(&tensors.map(|tensor| &*tensor.buffer));
        let pipeline = self.pipelines.get(weights.dtype());
        pass.dispatch(pipeline, &buffers, &Params { grid_x, ..params }, [grid_x, grid_y, n_slots as u32]);
    }
}

/// Those of a dense network, with the grid left out.
fn params(weights: &Matrix, d_ff: usize, x: &Normed<'_>) -> Params {
    Params {
        blocks: (weights.cols() / BLOCK) as u32,
        d_ff: d_ff as u32,
        k: 0,
        n_experts: 0,
        first_expert: 0,
        n_here: 1,
        grid_x: 0,
        eps: x.eps,
        inv_d: 1.0 / weights.cols() as f32,
    }
}
