//! Prefill's products: the larger matrices of a layer at 64, 512 and 2048 tokens.

use qwgpu_runtime::{
    DType, Gpu,
    kernels::{
        matmul::{Matmul, Product},
        to_f16::Operand,
    },
};

use super::{
    BenchCase, data,
    shapes::{self, Shape, Weight},
};

pub(super) fn cases(gpu: &Gpu) -> Vec<BenchCase> {
    let batches: &[usize] = if gpu.caps().cpu { &[64] } else { &[64, 512, 2048] };
    let mut cases = Vec::new();
    for model in shapes::models(gpu) {
        let [_, _, gate_up, down, _] = model.weights();
        for &n_tokens in batches {
            cases.push(product(gpu, "matmul", &model, gate_up, DType::BF16, n_tokens));
            cases.push(product(gpu, "matmul", &model, down, DType::BF16, n_tokens));
        }
    }
    let models = shapes::models(gpu);
    let model = models[1.min(models.len() - 1)];
    for dtype in [DType::F32, DType::F16, DType::Q8, DType::Q4] {
        for &n_tokens in batches {
            cases.push(product(gpu, "matmul", &model, model.weights()[2], dtype, n_tokens));
        }
    }
    cases
}

/// The case of one product; as many tokens as the kernel `stem` takes.
pub(super) fn product(gpu: &Gpu, stem: &'static str, model: &Shape, weight: Weight, dtype: DType, n_tokens: usize) -> BenchCase {
    let (what, rows, cols) = weight;
    let rows = shapes::cut(gpu, rows);
    let name = format!("{} {what} {dtype} [{rows}, {cols}] x {n_tokens}", model.name);
    let bytes = dtype.row_bytes(rows * cols) + 4 * n_tokens * (rows + cols);
    BenchCase::new(stem, name, (bytes, 2 * n_tokens * rows * cols), move |gpu, copies| {
        let kernel = Matmul::new(gpu, &[dtype])?;
        let weights = data::weights(gpu, copies, rows, cols, dtype)?;
        let xs = data::inputs(gpu, copies, n_tokens, cols)?;
        let outs = data::outputs(gpu, copies, n_tokens, rows)?;
        let operand = if stem == "matmul_coop" {
            Some(Operand::new(gpu, n_tokens, cols)?)
        } else {
            None
        };
        Ok(Box::new(move |pass, i| {
            let product = Product {
                weights: &weights[i],
                x: &xs[i],
                bias: None,
                accumulate: false,
                out: &outs[i],
                operand: operand.as_ref(),
                in_operand: false,
                bytes: None,
                in_bytes: false,
            };
            kernel.dispatch(pass, &product);
        }))
    })
}
