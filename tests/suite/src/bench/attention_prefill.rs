//! Attention of a chunk, at the start of a context and deep in it.

use qwgpu_runtime::Gpu;

use super::{BenchCase, attention::Batch, shapes};

pub(super) fn cases(gpu: &Gpu) -> Vec<BenchCase> {
    chunks(gpu, "attention_prefill")
}

/// The cases of either kernel.
pub(super) fn chunks(gpu: &Gpu, stem: &'static str) -> Vec<BenchCase> {
    let batches: &[(usize, usize)] = if gpu.caps().cpu {
        &[(64, 0), (64, 256)]
    } else {
        &[(512, 0), (512, 8192), (2048, 0), (2048, 8192)]
    };
    let mut cases = Vec::new();
    for model in shapes::models(gpu) {
        for &(n_tokens, depth) in batches {
            let batch = Batch {
                model,
                n_tokens,
                n_keys: n_tokens + depth,
                kv: shapes::kv(gpu),
            };
            cases.push(batch.case(stem));
        }
    }
    cases
}
