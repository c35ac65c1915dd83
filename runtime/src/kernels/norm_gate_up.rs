//! The first half of one token's feed-forward in one dispatch: `out = silu(gate n) * (up n)`, `n = x / sqrt(mean(x^2) + eps) * norm`.
//!
//! Shapes: weights `[2 d_ff, d_model]` (gate first), x `[1, d_model]`, norm `[1, d_model]`, out `[1, d_ff]`. The unfused twin:
//! [`super::rms_norm`], [`super::matmul`] and [`super::silu_mul`].

use qwgpu_shaders::Variant;

use super::{
    Handle, PerDType, fold, rms_norm,
    share::{Forms, Share},
    silu_mul::silu,
    weights_format,
};
use crate::{DType, Gpu, Matrix, Pass, Result, Tensor, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Read, Access::Write];

params! { groups: u32, d_ff: u32, eps: f32, inv_d: f32, grid_x: u32 }

/// A row of gate and its row of up.
const PAIR: u32 = 2;

/// The compiled kernel.
#[derive(Debug)]
pub struct NormGateUp {
    forms: PerDType<Forms>,
}

fn pipeline(gpu: &Gpu, dtype: DType, share: Share) -> Result<Handle> {
    gpu.pipeline(Variant::NormGateUp {
        weights: weights_format(gpu.caps(), dtype),
        split: share.split(gpu.caps()),
        rows: share.rows,
    })
}

impl NormGateUp {
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
    /// As [`NormGateUp::new`].
    pub fn with_share(gpu: &Gpu, dtype: DType, share: Share) -> Result<Self> {
        Ok(Self {
            forms: PerDType::only(gpu, &[dtype], share, pipeline)?,
        })
    }

    /// Computes `out` from the residual stream `x`.
    ///
    /// # Panics
    /// When shapes do not fit, or the matrix is split.
    #[track_caller]
    pub fn dispatch(&self, pass: &mut Pass<'_>, weights: &Matrix, x: &Tensor, norm: &Tensor, eps: f32, out: &Tensor) {
        let [part] = weights.parts.as_slice() else {
            panic!("norm_gate_up: a matrix of {} parts", weights.parts.len())
        };
        let (d_model, d_ff) = (weights.cols(), out.cols());
        assert_eq!(weights.rows(), 2 * d_ff, "norm_gate_up: rows of the matrix");
        assert_eq!((x.rows(), x.cols(), norm.cols()), (1, d_model, d_model), "norm_gate_up: shape of x");
        let (share, pipeline) = self.forms.get(weights.dtype()).of([weights.rows(), d_model]);
        let grid = fold(pass.gpu(), d_ff.div_ceil((share.rows / PAIR) as usize));
        let params = Params {
            groups: (d_model / 8) as u32,
            d_ff: d_ff as u32,
            eps,
            inv_d: 1.0 / d_model as f32,
            grid_x: grid[0],
        };
        let buffers = part.bind(&[&x.buffer, &norm.buffer, &out.buffer]);
        pass.dispatch(pipeline, &buffers, &params, grid);
    }
}

/// The definition, for one output: its rows of gate and up.
#[must_use]
pub fn reference(gate: &[f32], up: &[f32], x: &[f32], norm: &[f32], eps: f32) -> f64 {
    let normed = rms_norm::reference(x, norm, eps);
    let product = |row: &[f32]| -> f64 { row.iter().zip(&normed).map(|(&w, &x)| f64::from(w) * x).sum() };
    silu(product(gate)) * product(up)
}
