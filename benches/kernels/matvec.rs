//! Decode's products: bound by reading the weights once.

use criterion::{Criterion, Throughput};
use qwgpu_runtime::{
    DType, Elem, Gpu, Matrix, Pass, Tensor,
    kernels::{
        fill_random::FillRandom,
        matmul::{Matmul, Product},
    },
};

/// A matrix of random weights.
pub(super) fn random(gpu: &Gpu, rows: usize, cols: usize, dtype: DType) -> Matrix {
    let matrix = Matrix::new(gpu, "weights", rows, cols, dtype).expect("room for the weights");
    let mut pass = Pass::new(gpu);
    FillRandom::new(gpu).expect("it compiles").dispatch(&mut pass, &matrix, 1, 0.03);
    pass.submit();
    matrix
}

pub(super) fn bench(criterion: &mut Criterion, gpu: &Gpu) {
    let shapes: &[(usize, usize)] = if gpu.caps().cpu {
        &[(896, 896)]
    } else {
        &[(4864, 896), (18_944, 3584), (3584, 18_944)]
    };
    let mut group = criterion.benchmark_group("matvec");
    let kernel = Matmul::new(gpu, &DType::ALL).expect("it compiles");
    for &(rows, cols) in shapes {
        for dtype in DType::ALL {
            let weights = random(gpu, rows, cols, dtype);
            for n_tokens in [1, 4, 8] {
                let x = Tensor::from_f32(gpu, "x", n_tokens, cols, &vec![0.5; n_tokens * cols]).expect("room");
                let out = Tensor::new(gpu, "out", n_tokens, rows, Elem::F32).expect("room");
                let product = Product {
                    weights: &weights,
                    x: &x,
                    bias: None,
                    accumulate: false,
                    out: &out,
                };
                let name = format!("{dtype} {rows}x{cols} x {n_tokens}");
                super::measure(&mut group, gpu, &name, Throughput::Bytes(weights.bytes()), |pass| {
                    kernel.dispatch(pass, &product)
                });
            }
        }
    }
}
