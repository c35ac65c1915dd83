//! Prefill's products with experts on matrix units, the rounding of x to f16 included.

use qwgpu_runtime::{Gpu, kernels::matmul_coop::grids};

use super::{BenchCase, matmul_experts::both_matrices};

pub(super) fn cases(gpu: &Gpu) -> Vec<BenchCase> {
    if grids(gpu.caps()).is_empty() {
        return Vec::new();
    }
    let batches = [512, 2048].into_iter();
    batches
        .flat_map(|n_tokens| both_matrices(gpu, "matmul_experts_coop", n_tokens))
        .collect()
}
