//! The merge of split attention on made-up partial results, empty splits included.

use qwgpu_runtime::{Elem, Gpu, Pass, Tensor, kernels::attention_merge};

use super::Checked;
use crate::{
    Case, Guarded,
    compare::{self, Expected, TINY},
    fill,
    fill::Fill,
};

/// What a split without keys reports as its maximum.
const LOWEST: f32 = -3.0e38;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for head_dim in [64, 128] {
        for (n_tokens, n_heads, n_splits) in [(1, 1, 1), (2, 3, 2), (3, 14, 5), (1, 16, 64)] {
            let name = format!("{n_splits} splits of {n_tokens} x {n_heads} heads of {head_dim}");
            let check = move |gpu: &_| check(gpu, head_dim, n_tokens, n_heads, n_splits);
            cases.push(Case::new("attention_merge", name, move |gpu| check(gpu)).quick(true));
        }
    }
    cases
}

fn check(gpu: &Gpu, head_dim: usize, n_tokens: usize, n_heads: usize, n_splits: usize) -> Checked {
    let n = n_tokens * n_heads * n_splits;
    let mut partials = fill::values(Fill::Plain, 16, n, head_dim);
    let mut stats = Vec::new();
    for i in 0..n {
        // one split in four saw no key, but never the first
        if i % n_splits != 0 && fill::hash(17, i as u64).is_multiple_of(4) {
            stats.push((LOWEST, 0.0));
            partials[i * head_dim..][..head_dim].fill(0.0);
        } else {
            stats.push((20.0 * fill::at(18, i as u64), 1.0 + 30.0 * fill::at(19, i as u64).abs()));
        }
    }
    let partials_tensor = Tensor::from_f32(gpu, "partials", n, head_dim, &partials)?;
    let flat: Vec<f32> = stats.iter().flat_map(|s| [s.0, s.1]).collect();
    let stats_tensor = Tensor::from_f32(gpu, "stats", n, 2, &flat)?;
    let out = Guarded::new(gpu, n_tokens, n_heads * head_dim, Elem::F32)?;
    let kernel = attention_merge::AttentionMerge::new(gpu, head_dim)?;
    let mut pass = Pass::new(gpu);
    kernel.dispatch(&mut pass, &partials_tensor, &stats_tensor, n_splits, out.out());
    pass.submit();
    let heads = partials.chunks_exact(n_splits * head_dim).zip(stats.chunks_exact(n_splits));
    let expected = heads.flat_map(|(partials, stats)| {
        let m = stats.iter().map(|s| f64::from(s.0)).fold(f64::MIN, f64::max);
        let lowest = stats
            .iter()
            .map(|s| f64::from(s.0))
            .filter(|&m| m > f64::from(LOWEST))
            .fold(m, f64::min);
        let relative = compare::exp_error(m - lowest) + compare::sum_bound(n_splits, 1.0);
        let magnitudes: Vec<f32> = partials.iter().map(|x| x.abs()).collect();
        let magnitude = attention_merge::reference(&magnitudes, stats, head_dim);
        let values = attention_merge::reference(partials, stats, head_dim);
        // numerator and denominator each carry the error
        values.into_iter().zip(magnitude).map(move |(value, m)| Expected {
            value,
            bound: 2.0 * relative * m + TINY,
        })
    });
    compare::elements("out", n_heads * head_dim, &out.read_f32(gpu)?, expected)
}
