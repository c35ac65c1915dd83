//! The merge of split attention on made-up partial results: every number of splits, splits without keys anywhere, maxima far apart.

use qwgpu_runtime::{Elem, Gpu, HEAD_DIMS, Pass, Tensor, kernels::attention_merge};

use super::Checked;
use crate::{
    Case, Guarded,
    compare::{self, EPS32, Expected, TINY},
    fill,
};

/// What a split without keys reports as its maximum.
const LOWEST: f32 = -3.0e38;
/// Standard deviations that a bound allows, as for attention itself.
const SIGMAS: f64 = 5.0;

/// Tokens, heads, splits: workgroups of 4 or 2 heads that end evenly and not, and the family's heads.
const SHAPES: [(usize, usize, usize); 12] = [
    (1, 1, 1),
    (2, 3, 2),
    (3, 14, 5),
    (1, 16, 64),
    (8, 7, 3),
    (5, 4, 31),
    (2, 5, 32),
    (4, 12, 33),
    (1, 28, 17),
    (2, 40, 8),
    (1, 64, 63),
    (8, 64, 4),
];

/// What the splits report.
#[derive(Clone, Copy, Debug)]
enum Look {
    /// Maxima up to 45 apart; one split in four saw no key.
    Mixed,
    /// All maxima equal.
    Equal,
    /// Maxima hundreds apart, so that one split has all the weight.
    Far,
    /// Maxima that rise from split to split.
    Rising,
    /// Maxima that fall.
    Falling,
    /// Huge scores, all below zero.
    Low,
    /// One split alone saw keys; which one differs from head to head.
    Lonely,
    /// Values of up to 3e5.
    Large,
}

const LOOKS: [Look; 8] = [
    Look::Mixed,
    Look::Equal,
    Look::Far,
    Look::Rising,
    Look::Falling,
    Look::Low,
    Look::Lonely,
    Look::Large,
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for head_dim in HEAD_DIMS {
        for (n_tokens, n_heads, n_splits) in SHAPES {
            for look in LOOKS {
                let name = format!("{n_splits} splits of {n_tokens} x {n_heads} heads of {head_dim}, {look:?}");
                let check = move |gpu: &_| check(gpu, head_dim as usize, n_tokens, n_heads, n_splits, look);
                cases.push(Case::new("attention_merge", name, move |gpu| check(gpu)).quick(true));
            }
        }
    }
    cases
}

/// Maximum and sum of split `s` of `n` of a head; without keys LOWEST and 0.
fn stat(look: Look, head: usize, s: usize, n: usize) -> (f32, f32) {
    let i = (head * n + s) as u64;
    let plain = fill::at(18, i);
    let empty = match look {
        Look::Lonely => s != fill::hash(17, head as u64) as usize % n,
        // never all of them
        Look::Mixed => s != head % n && fill::hash(17, i).is_multiple_of(4),
        _ => false,
    };
    let max = match look {
        _ if empty => return (LOWEST, 0.0),
        Look::Equal => 3.5,
        Look::Far => 700.0 * plain,
        Look::Rising => s as f32 * 0.75 + plain,
        Look::Falling => plain - s as f32 * 0.75,
        Look::Low => plain - 2e5,
        _ => 20.0 * plain,
    };
    (max, 1.0 + 30.0 * fill::at(19, i).abs())
}

fn check(gpu: &Gpu, head_dim: usize, n_tokens: usize, n_heads: usize, n_splits: usize, look: Look) -> Checked {
    let n = n_tokens * n_heads * n_splits;
    let stats: Vec<(f32, f32)> = (0..n).map(|i| stat(look, i / n_splits, i % n_splits, n_splits)).collect();
    let factor = if matches!(look, Look::Large) { 2.4e5 } else { 1.0 };
    // a split's sum of values is as large as its sum of weights
    let partial = |i: usize| fill::at(16, i as u64) * stats[i / head_dim].1 * factor;
    let partials: Vec<f32> = (0..n * head_dim).map(partial).collect();
    let partials_tensor = Tensor::from_f32(gpu, "partials", n, head_dim, &partials)?;
    let flat: Vec<f32> = stats.iter().flat_map(|s| [s.0, s.1]).collect();
    let stats_tensor = Tensor::from_f32(gpu, "stats", n, 2, &flat)?;
    let out = Guarded::new(gpu, n_tokens, n_heads * head_dim, Elem::F32)?;
    let kernel = attention_merge::AttentionMerge::new(gpu, head_dim)?;
    let mut pass = Pass::new(gpu);
    kernel.dispatch(&mut pass, &partials_tensor, &stats_tensor, n_splits, out.out());
    pass.submit();
    let heads = partials.chunks_exact(n_splits * head_dim).zip(stats.chunks_exact(n_splits));
    let expected = heads.flat_map(|(partials, stats)| expected(partials, stats, head_dim));
    compare::elements("out", n_heads * head_dim, &out.read_f32(gpu)?, expected)
}

/// One head. As in attention, errors of the weights `W_s` move the output `o` by `sum_s W_s e_s (partial_s - o l_s) / sum_s W_s l_s`, and
/// partial results drawn independently of the maxima give these terms random signs. Errors are uniform within what WGSL allows an
/// exponential, 3 + 2 |x| units in the last place, and the rounding of its argument. To these come the rounded products and partial
/// sums of numerator and denominator, and the division with 2.5 units.
fn expected(partials: &[f32], stats: &[(f32, f32)], head_dim: usize) -> Vec<Expected> {
    let values = attention_merge::reference(partials, stats, head_dim);
    let max = stats.iter().map(|s| f64::from(s.0)).fold(f64::MIN, f64::max);
    let weights: Vec<f64> = stats.iter().map(|s| (f64::from(s.0) - max).exp()).collect();
    let total: f64 = weights.iter().zip(stats).map(|(w, s)| w * f64::from(s.1)).sum();
    let n = stats.len() as f64;
    let bound = |d: usize| {
        let (mut moved, mut squares) = (0.0, 0.0);
        for ((part, stat), w) in partials.chunks_exact(head_dim).zip(stats).zip(&weights) {
            let x = if *w > 0.0 { f64::from(stat.0) - max } else { 0.0 };
            let error = compare::exp_error(x) + EPS32 * x.abs();
            let (part, share) = (w * f64::from(part[d]) / total, w * f64::from(stat.1) / total);
            moved += (error * (part - values[d] * share)).powi(2);
            squares += part * part + (values[d] * share).powi(2);
        }
        let sums = (n + 1.0) * (2.0 * values[d] * values[d] + squares);
        let variance = (moved + EPS32 * EPS32 * sums) / 3.0;
        SIGMAS * variance.sqrt() + 5.0 * EPS32 * values[d].abs() + n * TINY
    };
    (0..head_dim)
        .map(|d| Expected {
            value: values[d],
            bound: bound(d),
        })
        .collect()
}
