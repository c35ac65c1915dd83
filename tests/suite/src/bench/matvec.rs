//! Decode's products: every matrix of each model in each type.

use qwgpu_runtime::{DType, Gpu};

use super::{BenchCase, matmul::product, shapes};

pub(super) fn cases(gpu: &Gpu) -> Vec<BenchCase> {
    let mut cases = Vec::new();
    for model in shapes::models(gpu) {
        for weight in model.weights() {
            for dtype in DType::ALL {
                cases.push(product(gpu, "matvec", &model, weight, dtype, 1));
            }
        }
    }
    for n_tokens in [4, 8] {
        let model = shapes::models(gpu)[0];
        cases.push(product(gpu, "matvec", &model, model.weights()[2], DType::BF16, n_tokens));
    }
    cases
}
