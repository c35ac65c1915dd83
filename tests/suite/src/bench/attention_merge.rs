//! The join of 64 splits, for one token and for eight.

use qwgpu_runtime::{
    Gpu,
    kernels::{attention::MAX_SPLITS, attention_merge::AttentionMerge},
};

use super::{
    BenchCase, data,
    shapes::{self, Shape},
};

pub(super) fn cases(gpu: &Gpu) -> Vec<BenchCase> {
    let models = shapes::models(gpu).into_iter();
    models.flat_map(|model| [1, 8].map(|n_tokens| case(model, n_tokens))).collect()
}

fn case(model: Shape, n_tokens: usize) -> BenchCase {
    let Shape { n_heads, head_dim, .. } = model;
    let n = n_tokens * n_heads * MAX_SPLITS;
    let cols = n_heads * head_dim;
    let name = format!("{} {MAX_SPLITS} splits, tokens: {n_tokens}", model.name);
    let bytes = 4 * (n * (head_dim + 2) + n_tokens * cols);
    BenchCase::new("attention_merge", name, (bytes, 2 * n * head_dim), move |gpu, copies| {
        let kernel = AttentionMerge::new(gpu, head_dim)?;
        let partials = data::inputs(gpu, copies, n, head_dim)?;
        let stats = data::inputs(gpu, copies, n, 2)?;
        let outs = data::outputs(gpu, copies, n_tokens, cols)?;
        Ok(Box::new(move |pass, i| {
            kernel.dispatch(pass, &partials[i], &stats[i], MAX_SPLITS, &outs[i]);
        }))
    })
}
