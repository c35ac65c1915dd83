//! One head in f64, with the bound that rounding explains.
//!
//! Write `w_j = p_j / sum_i p_i` for the weights and `o = sum_j w_j v_j` for an output element. To first order, relative errors `e_j` of
//! the `p_j` move it by `sum_j w_j e_j (v_j - o)`: what all `p_j` have in common, such as the rounding of the maximum, cancels between
//! numerator and denominator, and what is left meets the signs of `v_j - o`. The tests draw values independently of queries and
//! keys, so these signs are random whatever the `e_j` are, and the terms add up in quadrature. The `e_j` are taken as uniform within
//! what is allowed (variance: a third of the square):
//!
//! - the score: head_dim products and as many partial sums, each rounded. Partial sums in any order are about as large as the score
//!   itself, or as the root of the sum of the squared products, whichever is more;
//! - its difference from the maximum, rounded once, and its exponential, which WGSL allows 3 + 2 |x| units in the last place; besides
//!   one for each time that the maximum rises, since sums so far are rescaled then, and one for the merge. Their arguments add up to x.
//!
//! On matrix units queries and exponentials are rounded to f16 besides: the former move the score by a half ulp of each product, the
//! latter the weight, in the numerator and, where the driver adds up what was not rounded yet, not in the denominator; an exponential below f16's normal range loses up to half its smallest number, or all.
//!
//! Numerator and denominator are sums of n terms, each partial sum rounded; terms below the last place of the whole are not rounded
//! at random but lost, all in one direction, so they count fully. The division, 2.5 units in the last place in WGSL, is the last step.

use qwgpu_runtime::kernels::attention;

use crate::compare::{EPS32, Expected, TINY};

/// Standard deviations: one value in two million would be outside by chance, if the variances were exact and not upper limits.
const SIGMAS: f64 = 5.0;
/// Keys after which kernels look for a new maximum.
const TILE: usize = 32;
/// Variance of one rounding, relative to the square of the rounded number.
const ROUNDING: f64 = EPS32 * EPS32 / 3.0;

/// The same for f16.
const ROUNDING16: f64 = 1.0 / (2048.0 * 2048.0 * 3.0);
/// Smallest normal f16.
const MIN_NORMAL16: f64 = 1.0 / 16384.0;

/// One key: its score and how large an error of its weight rounding explains.
struct Weight {
    w: f64,
    error: f64,
    /// How large an error of its part in the numerator alone, or in the denominator alone, rounding to f16 explains.
    apart: f64,
    /// What may be lost of it, beyond what is relative.
    lost: f64,
}

pub(super) fn head(q: &[f32], k: &[f32], v: &[f32], scale: f32, halves: bool) -> Vec<Expected> {
    let head_dim = q.len();
    let n = (k.len() / head_dim) as f64;
    let out = attention::reference(q, k, v, scale);
    let weights = weights(q, k, f64::from(scale), halves);
    // sums over the keys: squared effects of the weights' errors, squared terms, terms too small to be added
    let (mut moved, mut squares, mut lost) = (vec![0.0; head_dim], vec![0.0; head_dim], vec![0.0; head_dim]);
    for (weight, value) in weights.iter().zip(v.chunks_exact(head_dim)) {
        let small = if weight.w < 2.0 * EPS32 { weight.w } else { weight.lost };
        let effect = weight.w * weight.error;
        for d in 0..head_dim {
            let x = f64::from(value[d]);
            moved[d] += (effect * (x - out[d])).powi(2) + (weight.w * weight.apart).powi(2) * (x * x + out[d] * out[d]);
            squares[d] += (weight.w * x).powi(2);
            lost[d] += small * (x.abs() + out[d].abs());
        }
    }
    (0..head_dim)
        .map(|d| {
            let square = out[d] * out[d];
            // the numerator's partial sums are about as large as the sum or the root of its squared terms, the denominator's at most
            // as the sum; then the products
            let sums = ROUNDING * (n * (square + squares[d]) + n * square + squares[d]);
            let bound = (moved[d] + SIGMAS * SIGMAS * sums).sqrt() + lost[d] + 7.0 * EPS32 * out[d].abs() + n * TINY;
            Expected { value: out[d], bound }
        })
        .collect()
}

fn weights(q: &[f32], k: &[f32], scale: f64, halves: bool) -> Vec<Weight> {
    // scores and the sums of their squared products
    let scores: Vec<(f64, f64)> = k
        .chunks_exact(q.len())
        .map(|key| {
            let products = q.iter().zip(key).map(|(&a, &b)| f64::from(a) * f64::from(b) * scale);
            products.fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x))
        })
        .collect();
    let (mut max, mut n_rises) = (f64::MIN, 0.0);
    for tile in scores.chunks(TILE) {
        let highest = tile.iter().map(|score| score.0).fold(f64::MIN, f64::max);
        if highest > max {
            (max, n_rises) = (highest, n_rises + 1.0);
        }
    }
    let total: f64 = scores.iter().map(|score| (score.0 - max).exp()).sum();
    let weight = |&(score, squares): &(f64, f64)| {
        let x = (score - max).abs();
        let of_score = (q.len() + 2) as f64 * ROUNDING * (score * score + squares);
        let of_exp = 2.0 * EPS32 * (3.0 * f64::sqrt(n_rises + 1.0) + 2.0 * x) + EPS32 * x;
        let of_halves = if halves { ROUNDING16 * squares } else { 0.0 };
        let sigma = (of_score + of_exp * of_exp / 3.0 + of_halves).sqrt();
        // scores of 1e5 are uncertain by more than first order allows; hopeless ones have no weight to be multiplied
        Weight {
            w: (-x).exp() / total,
            error: (SIGMAS * sigma).min(30.0).exp_m1(),
            apart: if halves { SIGMAS * ROUNDING16.sqrt() } else { 0.0 },
            lost: if halves && (-x).exp() < MIN_NORMAL16 {
                (-x).exp() / total
            } else {
                0.0
            },
        }
    };
    scores.iter().map(weight).collect()
}
