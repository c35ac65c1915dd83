//! Attention of one token over a context that is not split.

use qwgpu_runtime::{Gpu, kernels::has_teams};

use super::{BenchCase, attention_decode::steps};

pub(super) fn cases(gpu: &Gpu) -> Vec<BenchCase> {
    if has_teams(gpu.caps()) {
        steps(gpu, "attention_short", &[32, 128, 256])
    } else {
        Vec::new()
    }
}
