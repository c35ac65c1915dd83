//! Attention of one token; where it is split, the merge included.

use qwgpu_runtime::Gpu;

use super::{BenchCase, attention::Batch, shapes};

pub(super) fn cases(gpu: &Gpu) -> Vec<BenchCase> {
    let contexts: &[usize] = if gpu.caps().cpu { &[512] } else { &[128, 512, 8192, 32_768] };
    steps(gpu, "attention_decode", contexts)
}

/// The cases of one of the kernels, over contexts for which it is taken.
pub(super) fn steps(gpu: &Gpu, stem: &'static str, contexts: &[usize]) -> Vec<BenchCase> {
    let mut cases = Vec::new();
    for model in shapes::models(gpu) {
        for &n_keys in contexts {
            let batch = Batch {
                model,
                n_tokens: 1,
                n_keys,
                kv: shapes::kv(gpu),
            };
            cases.push(batch.case(stem));
        }
    }
    cases
}
