//! The weighted sum of what a token's experts have made, for one token and for a chunk.

use qwgpu_runtime::{Gpu, kernels::combine_experts::CombineExperts};

use super::{BenchCase, data, shapes};

pub(super) fn cases(gpu: &Gpu) -> Vec<BenchCase> {
    let experts = shapes::experts(gpu);
    let case = |n_tokens: usize| {
        let (d_model, k, n_slots) = (experts.d_model, experts.k, experts.n_slots());
        let n = n_tokens * n_slots * d_model;
        let name = format!("{} [{n_tokens}, {d_model}] of {n_slots} slots", experts.name);
        let bytes = 4 * (n + 2 * n_tokens * d_model + n_tokens * (k + 1));
        BenchCase::new("combine_experts", name, (bytes, 2 * n), move |gpu, copies| {
            let kernel = CombineExperts::new(gpu)?;
            let ys = data::inputs(gpu, copies, n_tokens * n_slots, d_model)?;
            let factors = data::inputs(gpu, 1, n_tokens, k + 1)?.remove(0);
            let xs = data::outputs(gpu, copies, n_tokens, d_model)?;
            Ok(Box::new(move |pass, i| kernel.dispatch(pass, &ys[i], &factors, n_slots, &xs[i])))
        })
    };
    shapes::token_counts(gpu).map(case).into()
}
