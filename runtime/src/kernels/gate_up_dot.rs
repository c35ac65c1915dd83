//! The first half of one token's feed-forward with quantised weights and the normalised x in bytes, with integer dot products:
//! `out = silu(gate n) * (up n)`, n as its bytes have it.
//!
//! The bytes come from [`super::norm_quantize`]. Against the unquantised n, each of its elements is off by up to half a step, a 254th
//! of the largest of its block. Shapes: weights `[2 d_ff, d_model]` (gate first) in q8 or q4, out `[1, d_ff]`. The twin in f32, norm
//! included: [`super::norm_gate_up`].

use qwgpu_shaders::Variant;

use super::{
    Handle, PerDType, fold,
    quantize::Bytes,
    share::{Forms, Share},
    weights_format,
};
use crate::{BLOCK, DType, Gpu, Matrix, Pass, Result, Tensor, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Read, Access::Write];

params! { blocks: u32, d_ff: u32, grid_x: u32 }

/// A row of gate and its row of up.
const PAIR: u32 = 2;

/// The compiled kernel.
#[derive(Debug)]
pub struct GateUpDot {
    forms: PerDType<Forms>,
}

fn pipeline(gpu: &Gpu, dtype: DType, share: Share) -> Result<Handle> {
    gpu.pipeline(Variant::GateUpDot {
        weights: weights_format(gpu.caps(), dtype),
        reduce: share.reduce(gpu.caps()),
        rows: share.rows,
    })
}

impl GateUpDot {
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
    /// As [`GateUpDot::new`].
    ///
    /// # Panics
    /// For a weight type that is not quantised.
    #[track_caller]
    pub fn with_share(gpu: &Gpu, dtype: DType, share: Share) -> Result<Self> {
        assert!(dtype.is_quantised(), "gate_up_dot: {dtype} weights");
        Ok(Self {
            forms: PerDType::only(gpu, &[dtype], share, pipeline)?,
        })
    }

    /// Computes `out` from the bytes of the normalised x.
    ///
    /// # Panics
    /// When shapes do not fit, or the matrix is split.
    #[track_caller]
    pub fn dispatch(&self, pass: &mut Pass<'_>, weights: &Matrix, bytes: &Bytes, out: &Tensor) {
        let [part] = weights.parts.as_slice() else {
            panic!("gate_up_dot: a matrix of {} parts", weights.parts.len())
        };
        let (d_model, d_ff) = (weights.cols(), out.cols());
        assert_eq!(weights.rows(), 2 * d_ff, "gate_up_dot: rows of the matrix");
        assert!(d_model <= bytes.room(), "gate_up_dot: {d_model} columns of {}", bytes.room());
        let (share, pipeline) = self.forms.get(weights.dtype()).of([weights.rows(), d_model]);
        let grid = fold(pass.gpu(), d_ff.div_ceil((share.rows / PAIR) as usize));
        let params = Params {
            blocks: (d_model / BLOCK) as u32,
            d_ff: d_ff as u32,
            grid_x: grid[0],
        };
        let buffers = part.bind(&[&bytes.bytes.buffer, &bytes.block_scales.buffer, &out.buffer]);
        pass.dispatch(pipeline, &buffers, &params, grid);
    }
}
