//! The small kernels, one shape each: what a dispatch costs apart from its work.

use criterion::{Criterion, Throughput};
use qwgpu_runtime::{
    Elem, Gpu, Tensor,
    kernels::{argmax::Argmax, rms_norm::RmsNorm, silu_mul::SiluMul, topk},
};

pub(super) fn bench(criterion: &mut Criterion, gpu: &Gpu) {
    let mut group = criterion.benchmark_group("others");
    let tensor = |rows, cols| Tensor::new(gpu, "tensor", rows, cols, Elem::F32).expect("room");
    let bytes = |tensors: &[&Tensor]| Throughput::Bytes(tensors.iter().map(|tensor| tensor.bytes()).sum());

    let (x, weight, out) = (tensor(64, 3584), tensor(1, 3584), tensor(64, 3584));
    let norm = RmsNorm::new(gpu).expect("it compiles");
    super::measure(&mut group, gpu, "rms_norm 64x3584", bytes(&[&x, &out]), |pass| {
        norm.dispatch(pass, &x, 0, &weight, 1e-6, &out)
    });

    let (gate_up, out) = (tensor(64, 2 * 4864), tensor(64, 4864));
    let silu = SiluMul::new(gpu).expect("it compiles");
    super::measure(&mut group, gpu, "silu_mul 64x4864", bytes(&[&gate_up, &out]), |pass| {
        silu.dispatch(pass, &gate_up, &out)
    });

    let n = 151_936;
    let logits = tensor(1, n);
    let ids = Tensor::new(gpu, "ids", 1, 1, Elem::U32).expect("room");
    let argmax = Argmax::new(gpu).expect("it compiles");
    super::measure(&mut group, gpu, "argmax 151936", bytes(&[&logits]), |pass| {
        argmax.dispatch(pass, &logits, n, &ids)
    });

    let (values, ids) = (tensor(1, 64), Tensor::new(gpu, "ids", 1, 64, Elem::U32).expect("room"));
    let scratch = topk::Scratch::new(gpu, 1, n, 64).expect("room");
    let best = topk::Topk::new(gpu).expect("it compiles");
    super::measure(&mut group, gpu, "topk 64 of 151936", bytes(&[&logits]), |pass| {
        best.dispatch(pass, &logits, n, &scratch, &values, &ids);
    });
}
