//! The same tokens on matrix units.

use qwgpu_runtime::{Elem, Gpu, kernels::attention_decode_coop::subgroup};

use super::{BenchCase, attention_decode::steps, shapes};

pub(super) fn cases(gpu: &Gpu) -> Vec<BenchCase> {
    if subgroup(gpu.caps()).is_some() && shapes::kv(gpu) == Elem::F16 {
        steps(gpu, "attention_decode_coop", &[512, 8192, 32_768])
    } else {
        Vec::new()
    }
}
