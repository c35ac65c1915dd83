//! Prefill's products: elements are multiply-adds.

use criterion::{Criterion, Throughput};
use qwgpu_runtime::{
    DType, Elem, Gpu, Tensor,
    kernels::matmul::{Matmul, Product},
};

pub(super) fn bench(criterion: &mut Criterion, gpu: &Gpu) {
    let (rows, cols, batches): (usize, usize, &[usize]) = if gpu.caps().cpu {
        (256, 896, &[64])
    } else {
        (18_944, 3584, &[64, 512, 2048])
    };
    let mut group = criterion.benchmark_group("matmul");
    let kernel = Matmul::new(gpu, &DType::ALL).expect("it compiles");
    for dtype in DType::ALL {
        let weights = super::matvec::random(gpu, rows, cols, dtype);
        for &n_tokens in batches {
            let x = Tensor::from_f32(gpu, "x", n_tokens, cols, &vec![0.5; n_tokens * cols]).expect("room");
            let out = Tensor::new(gpu, "out", n_tokens, rows, Elem::F32).expect("room");
            let product = Product {
                weights: &weights,
                x: &x,
                bias: None,
                accumulate: false,
                out: &out,
            };
            let work = Throughput::Elements((n_tokens * rows * cols) as u64);
            super::measure(&mut group, gpu, &format!("{dtype} {rows}x{cols} x {n_tokens}"), work, |pass| {
                kernel.dispatch(pass, &product)
            });
        }
    }
}
