//! What the cases of one-token kernels share: their forms, and products with a vector that is normalised on the way.

use qwgpu_runtime::{
    DType,
    kernels::{norm_qkv_rope, share::Share},
};

use super::product::flushes;
use crate::{
    Axis,
    compare::{self, EPS32, Expected},
};

/// Every share of a workgroup that kernels with pairs of rows are compiled for; the first is one of those that GPUs use, the second, by
/// rows, what CPU drivers use, and the last is there for quantised weights.
pub(super) const SHARES: [Share; 8] = [
    share(128, 4),
    share(8, 32),
    share(64, 2),
    share(128, 2),
    share(64, 4),
    share(256, 4),
    share(256, 2),
    share(32, 4),
];

pub(super) const fn share(workgroup: u32, rows: u32) -> Share {
    Share { workgroup, rows }
}

/// What decides the text of such a kernel.
pub(super) const fn axes(f16: bool) -> &'static [Axis] {
    if f16 { &[Axis::Subgroup, Axis::F16] } else { &[Axis::Subgroup] }
}

/// A vector and its norm.
pub(super) struct Normed<'a> {
    x: &'a [f32],
    norm: &'a [f32],
    eps: f32,
    /// 1 / sqrt(mean(x^2) + eps)
    factor: f64,
}

impl<'a> Normed<'a> {
    pub(super) fn new(x: &'a [f32], norm: &'a [f32], eps: f32) -> Self {
        Self {
            x,
            norm,
            eps,
            factor: 1.0 / rms(x, eps),
        }
    }

    /// The product with a row of a matrix, and a bias.
    pub(super) fn product(&self, dtype: DType, row: &[f32], bias: f32) -> Expected {
        let (n, mut magnitude, mut flushed) = (self.x.len(), 0.0, 0.0);
        for (k, ((&w, &x), &norm)) in row.iter().zip(self.x).zip(self.norm).enumerate() {
            let term = (f64::from(w) * f64::from(x) * f64::from(norm)).abs();
            magnitude += term;
            let tiny = |value: f32| value.abs() < f32::MIN_POSITIVE;
            if flushes(dtype, row, k) || tiny(x) || tiny(norm) || tiny(x * norm) {
                flushed += term;
            }
        }
        // the products, then the squares, whose sum has one sign, then the bias
        let bound = compare::sum_bound(n, magnitude) + compare::sum_bound(n, 1.0) * magnitude + flushed;
        Expected {
            value: norm_qkv_rope::reference([(row, bias)], self.x, self.norm, self.eps)[0],
            bound: self.factor * bound + 2.0 * EPS32 * f64::from(bias).abs(),
        }
    }
}

fn rms(x: &[f32], eps: f32) -> f64 {
    let squares: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    (squares / x.len() as f64 + f64::from(eps)).sqrt()
}
