//! [`super::experts_gate_up`] with quantised weights and the normalised x in bytes, with integer dot products:
//! `out[slot] = silu(gate_e n) * (up_e n)`, n as its bytes have it.
//!
//! The bytes come from [`super::norm_quantize`]. Against the unquantised n, each of its elements is off by up to half a step, a 254th
//! of the largest of its block. Shapes as those of the twin; experts in q8 or q4.

use qwgpu_shaders::Variant;

use super::{
    Handle, PerDType,
    experts_gate_up::GateUp,
    fold,
    quantize::Bytes,
    share::{Forms, Share},
    weights_format,
};
use crate::{BLOCK, DType, Gpu, Pass, Result, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Write];

params! { blocks: u32, d_ff: u32, k: u32, n_experts: u32, first_expert: u32, n_here: u32, grid_x: u32 }

/// A row of gate and its row of up.
const PAIR: u32 = 2;

/// The compiled kernel.
#[derive(Debug)]
pub struct ExpertsGateUpDot {
    forms: PerDType<Forms>,
}

fn pipeline(gpu: &Gpu, dtype: DType, share: Share) -> Result<Handle> {
    gpu.pipeline(Variant::ExpertsGateUpDot {
        weights: weights_format(gpu.caps(), dtype),
        reduce: share.reduce(gpu.caps()),
        rows: share.rows,
    })
}

impl ExpertsGateUpDot {
    /// What a workgroup has by default, tuned on an H100.
    pub const SHARE: Share = Share { workgroup: 64, rows: 2 };

    /// Compiles it for those of these weight types that are quantised.
    ///
    /// # Errors
    /// When a shader does not compile.
    pub fn new(gpu: &Gpu, dtypes: &[DType]) -> Result<Self> {
        Ok(Self {
            forms: PerDType::only_quantised(gpu, dtypes, Self::SHARE, pipeline)?,
        })
    }

    /// Compiles it for one weight type, with invocations of `MATVEC_DOT_WORKGROUPS` and rows of `PAIRS_DOT_ROWS` to a workgroup.
    ///
    /// # Errors
    /// As [`ExpertsGateUpDot::new`].
    ///
    /// # Panics
    /// For a weight type that is not quantised.
    #[track_caller]
    pub fn with_share(gpu: &Gpu, dtype: DType, share: Share) -> Result<Self> {
        assert!(dtype.is_quantised(), "experts_gate_up_dot: {dtype} weights");
        Ok(Self {
            forms: PerDType::only(gpu, &[dtype], share, pipeline)?,
        })
    }

    /// Computes `out`, with `bytes` in place of the normalised x, once for each part of the stack.
    ///
    /// # Panics
    /// When shapes do not fit, or a part of the matrix cuts an expert.
    #[track_caller]
    pub fn dispatch(&self, pass: &mut Pass<'_>, g: &GateUp<'_>, bytes: &Bytes) {
        let n_slots = g.check("experts_gate_up_dot");
        let (d_model, d_ff) = (g.experts.cols(), g.out.cols());
        assert!(
            d_model <= bytes.room(),
            "experts_gate_up_dot: {d_model} columns of {}",
            bytes.room()
        );
        let (share, pipeline) = self.forms.get(g.experts.dtype()).of([2 * d_ff * n_slots, d_model]);
        let [grid_x, grid_y, _] = fold(pass.gpu(), d_ff.div_ceil((share.rows / PAIR) as usize));
        for here in g.stack().parts() {
            let params = Params {
                blocks: (d_model / BLOCK) as u32,
                d_ff: d_ff as u32,
                k: g.chosen.cols() as u32,
                n_experts: g.n_experts as u32,
                first_expert: here.first_expert,
                n_here: here.n_here,
                grid_x,
            };
            let tensors = [&bytes.bytes, &bytes.block_scales, g.chosen, g.out];
            let buffers = here.part.bind(&tensors.map(|tensor| &*tensor.buffer));
            pass.dispatch(pipeline, &buffers, &params, [grid_x, grid_y, n_slots as u32]);
        }
    }
}
