//! The first half of one token's feed-forward with quantised weights, from bytes to bytes: what [`super::gate_up_dot`] or
//! [`super::experts_gate_up_dot`] and [`super::quantize`] do, in one dispatch, for adapters whose subgroups hold a team.
//!
//! Shapes: x in bytes, `[d_model]`; the stack of experts `[n, 2 d_ff, d_model]`, gate first, in q8 or q4; the result in bytes,
//! `[n_slots, d_ff]`. A dense network is a stack of one with one slot.

use qwgpu_shaders::Variant;

use super::{Handle, PerDType, experts_gate_up::GateUp, fold, has_teams, quantize::Bytes, weights_format};
use crate::{BLOCK, DType, Gpu, Matrix, Pass, Result, matrix::Part, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Write, Access::Write];

params! {
    blocks: u32, d_ff: u32, k: u32, n_experts: u32, first_expert: u32, n_here: u32, grid_x: u32,
}

/// The compiled kernel.
#[derive(Debug)]
pub struct GateUpBytes {
    pipelines: PerDType<Handle>,
}

impl GateUpBytes {
    /// The most columns for which it pays. A team walks over the blocks of eight rows by itself: an H100 takes 7B's 3584 columns in less
    /// time than in two dispatches, and 72B's 8192 in more.
    pub const MOST_COLUMNS: usize = 4096;

    /// Compiles it for those of these weight types that are quantised. Where subgroups hold no team, teams add up through workgroup memory:
    /// for tests, since two dispatches are faster then.
    ///
    /// # Errors
    /// When a shader does not compile.
    pub fn new(gpu: &Gpu, dtypes: &[DType]) -> Result<Self> {
        let quantised: Vec<DType> = dtypes.iter().copied().filter(|dtype| dtype.is_quantised()).collect();
        let pipeline = |dtype| {
            gpu.pipeline(Variant::GateUpBytes {
                weights: weights_format(gpu.caps(), dtype),
                subgroup: has_teams(gpu.caps()),
            })
        };
        Ok(Self {
            pipelines: PerDType::new(&quantised, pipeline)?,
        })
    }

    /// A dense network's: `weights` `[2 d_ff, d_model]` in one part, from `x` into `hidden`.
    ///
    /// # Panics
    /// When shapes do not fit, or the matrix is split.
    #[track_caller]
    pub fn dispatch(&self, pass: &mut Pass<'_>, weights: &Matrix, x: &Bytes, hidden: &Bytes) {
        let [part] = weights.parts.as_slice() else {
            panic!("gate_up_bytes: a matrix of {} parts", weights.parts.len())
        };
        let d_ff = weights.rows() / 2;
        let params = Params {
            blocks: (weights.cols() / BLOCK) as u32,
            d_ff: d_ff as u32,
            k: 0,
            n_experts: 0,
            first_expert: 0,
            n_here: 1,
            grid_x: 0,
        };
        // no slot is chosen: that binding is filled with x, which the kernel does not read as such
        self.part(pass, (weights, part), x, &x.bytes, (hidden, 1, d_ff), params);
    }

    /// A mixture's, once for each part of the stack; of `g` x and norm have become the bytes `x`, and the result goes into `hidden`.
    ///
    /// # Panics
    /// When shapes do not fit, or a part of the matrix cuts an expert.
    #[track_caller]
    pub fn dispatch_experts(&self, pass: &mut Pass<'_>, g: &GateUp<'_>, x: &Bytes, hidden: &Bytes) {
        let n_slots = g.check("gate_up_bytes");
        let d_ff = g.out.cols();
        for here in g.stack().parts() {
            let params = Params {
                blocks: (g.experts.cols() / BLOCK) as u32,
                d_ff: d_ff as u32,
                k: g.chosen.cols() as u32,
                n_experts: g.n_experts as u32,
                first_expert: here.first_expert,
                n_here: here.n_here,
                grid_x: 0,
            };
            self.part(pass, (g.experts, here.part), x, g.chosen, (hidden, n_slots, d_ff), params);
        }
    }

    #[track_caller]
    fn part(
        &self,
        pass: &mut Pass<'_>,
        (weights, part): (&Matrix, &Part),
        x: &Bytes,
        chosen: &crate::Tensor,
        (hidden, n_slots, d_ff): (&Bytes, usize, usize),
        params: Params,
    ) {
        assert!(
            weights.cols() <= x.room() && d_ff.is_multiple_of(BLOCK) && n_slots * d_ff <= hidden.room(),
            "gate_up_bytes: {} columns of {}, {n_slots} x {d_ff} outputs into {}",
            weights.cols(),
            x.room(),
            hidden.room()
        );
        let [grid_x, grid_y, _] = fold(pass.gpu(), d_ff / BLOCK);
        let tensors = [&x.bytes, &x.block_scales, chosen, &hidden.bytes, &hidden.block_scales];
        let buffers = part.bind(&tensors.map(|tensor| &*tensor.buffer));
        let pipeline = self.pipelines.get(weights.dtype());
        pass.dispatch(pipeline, &buffers, &Params { grid_x, ..params }, [grid_x, grid_y, n_slots as u32]);
    }
}
