//! Prefill's products on matrix units, the rounding of x to f16 included: all matrices of a layer at 512 and 2048 tokens.

use qwgpu_runtime::{DType, Gpu, kernels::matmul_coop::grids};

use super::{BenchCase, matmul::product, shapes};

pub(super) fn cases(gpu: &Gpu) -> Vec<BenchCase> {
    let mut cases = Vec::new();
    if grids(gpu.caps()).is_empty() {
        return cases;
    }
    for model in shapes::models(gpu) {
        let [qkv, o, gate_up, down, _] = model.weights();
        for n_tokens in [512, 2048] {
            for weight in [qkv, o, gate_up, down] {
                cases.push(product(gpu, "matmul_coop", &model, weight, DType::BF16, n_tokens));
            }
        }
    }
    cases
}
