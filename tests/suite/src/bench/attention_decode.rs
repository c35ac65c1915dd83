//! Attention of one token, the merge of its splits included.

use qwgpu_runtime::Gpu;

use super::{BenchCase, attention::Batch, shapes};

pub(super) fn cases(gpu: &Gpu) -> Vec<BenchCase> {
    let contexts: &[usize] = if gpu.caps().cpu { &[512] } else { &[512, 8192, 32_768] };
    let mut cases = Vec::new();
    for model in shapes::models(gpu) {
        for &n_keys in contexts {
            let batch = Batch {
                model,
                n_tokens: 1,
                n_keys,
                kv: shapes::kv(gpu),
            };
            cases.push(batch.case("attention_decode"));
        }
    }
    cases
}
