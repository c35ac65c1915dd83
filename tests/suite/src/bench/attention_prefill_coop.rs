//! The same chunks on matrix units.

use qwgpu_runtime::{Elem, Gpu, kernels::attention_prefill_coop::subgroup};

use super::{BenchCase, attention_prefill::chunks, shapes};

pub(super) fn cases(gpu: &Gpu) -> Vec<BenchCase> {
    if subgroup(gpu.caps()).is_some() && shapes::kv(gpu) == Elem::F16 {
        chunks(gpu, "attention_prefill_coop")
    } else {
        Vec::new()
    }
}
