//! What a token's experts have made, added to the residual: `x[t] += sum_s weight(t, s) * y[t * n_slots + s]`, the slots in order.
//!
//! Shapes: y `[n_tokens * n_slots, d_model]`, factors `[n_tokens, k + 1]`, x `[n_tokens, d_model]`; d_model a multiple of 4. Slot s of the
//! first k, which are chosen experts, has the weight `factors[t, s]`; the slots behind them, slices of the shared expert, have `factors[t, k]`.

use qwgpu_shaders::Variant;

use super::Handle;
use crate::{Gpu, Pass, Result, Tensor, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Write];

params! { vecs: u32, n_slots: u32, k: u32 }

/// The compiled kernel.
#[derive(Debug)]
pub struct CombineExperts {
    pipeline: Handle,
}

impl CombineExperts {
    /// Compiles it.
    ///
    /// # Errors
    /// When the shader does not compile.
    pub fn new(gpu: &Gpu) -> Result<Self> {
        Ok(Self {
            pipeline: gpu.pipeline(Variant::CombineExperts)?,
        })
    }

    /// Adds to the rows of `x`, of which there are as many as tokens.
    ///
    /// # Panics
    /// When shapes do not fit.
    #[track_caller]
    pub fn dispatch(&self, pass: &mut Pass<'_>, y: &Tensor, factors: &Tensor, n_slots: usize, x: &Tensor) {
        let n_tokens = x.rows();
        assert!(
            y.cols() == x.cols() && y.rows() >= n_tokens * n_slots,
            "combine_experts: y is [{}, {}] for {n_slots} slots of [{n_tokens}, {}]",
            y.rows(),
            y.cols(),
            x.cols()
        );
        assert!(
            factors.rows() >= n_tokens && (1..=n_slots + 1).contains(&factors.cols()),
            "combine_experts: factors are [{}, {}] for {n_tokens} tokens of {n_slots} slots",
            factors.rows(),
            factors.cols()
        );
        assert!(x.cols().is_multiple_of(4), "combine_experts: {} columns", x.cols());
        let params = Params {
            vecs: (x.cols() / 4) as u32,
            n_slots: n_slots as u32,
            k: (factors.cols() - 1) as u32,
        };
        let grid = [params.vecs.div_ceil(64), n_tokens as u32, 1];
        pass.dispatch(&self.pipeline, &[&y.buffer, &factors.buffer, &x.buffer], &params, grid);
    }
}

/// The definition, for one token and column: `factors` of the token, `y` of its slots, `x` as it was.
///
/// # Panics
/// When `factors` is empty.
#[must_use]
pub fn reference(factors: &[f32], y: &[f32], x: f32) -> f64 {
    let last = factors.len() - 1;
    let term = |(s, &y): (usize, &f32)| f64::from(factors[s.min(last)]) * f64::from(y);
    f64::from(x) + y.iter().enumerate().map(term).sum::<f64>()
}
