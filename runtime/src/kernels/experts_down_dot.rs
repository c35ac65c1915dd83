//! [`super::experts_down`] with quantised weights and the hidden activations in bytes, with integer dot products:
//! `out[r] += sum over slots of factor * (down_e[r] . hidden[slot])`, hidden as its bytes have it.
//!
//! The bytes come from [`super::quantize::Quantize::dispatch_rows`]. Against the unquantised activations, each is off by up to half a
//! step, a 254th of the largest of its block. Shapes as those of the twin; experts in q8 or q4.

use qwgpu_shaders::Variant;

use super::{
    Handle, PerDType,
    experts_down::Down,
    fold,
    quantize::Bytes,
    share::{Forms, Share},
    weights_format,
};
use crate::{BLOCK, DType, Gpu, Pass, Result, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Read, Access::Write];

params! {
    blocks: u32, n_slots: u32, k: u32, n_experts: u32, first_expert: u32, n_here: u32, n_rows: u32, grid_x: u32,
}

/// The compiled kernel.
#[derive(Debug)]
pub struct ExpertsDownDot {
    forms: PerDType<Forms>,
}

fn pipeline(gpu: &Gpu, dtype: DType, share: Share) -> Result<Handle> {
    gpu.pipeline(Variant::ExpertsDownDot {
        weights: weights_format(gpu.caps(), dtype),
        reduce: share.reduce(gpu.caps()),
        rows: share.rows,
    })
}

impl ExpertsDownDot {
    /// What a workgroup has by default. It reads the activations of all slots, at 16 slots of 2560 columns 51 KB, of which a row of
    /// weights in q4 has 23: four rows to a workgroup read them a quarter as often.
    pub const SHARE: Share = Share { workgroup: 64, rows: 4 };

    /// Compiles it for those of these weight types that are quantised.
    ///
    /// # Errors
    /// When a shader does not compile.
    pub fn new(gpu: &Gpu, dtypes: &[DType]) -> Result<Self> {
        Ok(Self {
            forms: PerDType::only_quantised(gpu, dtypes, Self::SHARE, pipeline)?,
        })
    }

    /// Compiles it for one weight type, with invocations of `MATVEC_DOT_WORKGROUPS` and rows of `MATVEC_DOT_ROWS` to a workgroup.
    ///
    /// # Errors
    /// As [`ExpertsDownDot::new`].
    ///
    /// # Panics
    /// For a weight type that is not quantised.
    #[track_caller]
    pub fn with_share(gpu: &Gpu, dtype: DType, share: Share) -> Result<Self> {
        assert!(dtype.is_quantised(), "experts_down_dot: {dtype} weights");
        Ok(Self {
            forms: PerDType::only(gpu, &[dtype], share, pipeline)?,
        })
    }

    /// Adds to `out`, with `bytes` in place of all rows of hidden, once for each part of the stack.
    ///
    /// # Panics
    /// When shapes do not fit, or a part of the matrix cuts an expert.
    #[track_caller]
    pub fn dispatch(&self, pass: &mut Pass<'_>, d: &Down<'_>, bytes: &Bytes) {
        let n_slots = d.check("experts_down_dot");
        let (d_model, d_ff) = (d.out.cols(), d.experts.cols());
        assert!(
            n_slots * d_ff <= bytes.room(),
            "experts_down_dot: {n_slots} rows of {d_ff} columns in {}",
            bytes.room()
        );
        let (share, pipeline) = self.forms.get(d.experts.dtype()).of([d_model, n_slots * d_ff]);
        let grid = fold(pass.gpu(), d_model.div_ceil(share.rows as usize));
        for here in d.stack().parts() {
            let params = Params {
                blocks: (d_ff / BLOCK) as u32,
                n_slots: n_slots as u32,
                k: d.chosen.cols() as u32,
                n_experts: d.n_experts as u32,
                first_expert: here.first_expert,
                n_here: here.n_here,
                n_rows: d_model as u32,
                grid_x: grid[0],
            };
            let tensors = [&bytes.bytes, &bytes.block_scales, d.chosen, d.factors, d.out];
            let buffers = here.part.bind(&tensors.map(|tensor| &*tensor.buffer));
            pass.dispatch(pipeline, &buffers, &params, grid);
        }
    }
}
