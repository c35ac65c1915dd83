//! Time of each kernel on the shapes of real models: what a change of a kernel gained. The cases live in `qwgpu-suite`.
//!
//! The adapter is the one that `QWGPU_TEST_ADAPTER` or `QWGPU_ADAPTER` names; CPU drivers get small shapes. Times are the GPU's own
//! where it has timestamps. Caches are cold, `QWGPU_BENCH_WARM=1` keeps them warm. With `--test` everything runs once. A case
//! says what its throughput counts: `GB`, bytes that must be moved, or `FLOP`, operations, which criterion calls elements.

mod argmax; // greedy choice
mod attention_decode; // few rows, split over the context
mod attention_decode_coop; // the same on matrix units
mod attention_merge; // the join of the splits
mod attention_prefill; // many rows, in tiles
mod attention_prefill_coop; // the same on matrix units
mod attention_short; // the same in a short context
mod combine_experts; // weighted sum of experts' outputs
mod embed; // embedding gather
mod embed_step; // the same for one token, and its place
mod experts_down; // one token: the weighted sum of its experts
mod experts_down_dot; // the same with integer dot products
mod experts_gate_up; // one token: norm, its experts' gate and up, SwiGLU
mod experts_gate_up_dot; // its experts' gate and up with integer dot products, SwiGLU
mod fill_random; // random weights
mod gate_up_bytes; // the same, with the result in bytes
mod gate_up_dot; // one token: gate and up with integer dot products, SwiGLU
mod group_experts; // rows of each expert
mod matmul; // tiled products
mod matmul_coop; // products on matrix units
mod matmul_experts; // tiled products with a stack of experts
mod matmul_experts_coop; // the same on matrix units
mod matvec; // products of 1 to 8 rows
mod matvec_dot; // quantised weights times one vector of bytes
mod norm_gate_up; // one token: norm, gate, up, SwiGLU
mod norm_qkv_rope; // one token: norm, q, k, v, rotation and cache write
mod norm_qkv_rope_dot; // one token: norm, q, k, v with integer dot products, rotation and cache write
mod norm_quantize; // one token: norm, to bytes
mod norm_to_f16; // the norm, to f16
mod penalty; // repetition penalty
mod qkv_rope_dot; // one token: q, k, v with integer dot products, rotation and cache write
mod quantize; // activations to bytes
mod rms_norm; // the norm
mod rope; // rotation and cache write
mod router; // the choice of experts
mod router_decode; // the same for few tokens
mod sample; // the draw of a token
mod silu_mul; // SwiGLU's middle
mod silu_mul_to_f16; // SwiGLU's middle, to f16
mod to_f16; // rows to f16
mod topk; // candidates under top-k

use std::{sync::Arc, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use qwgpu_runtime::Gpu;
use qwgpu_suite::{
    Mode,
    bench::{Bencher, cases},
    gpu,
};

/// Beyond this many operations to a byte, a case is limited by what it computes on any adapter.
const COMPUTES: u64 = 16;

/// The device, or a reason to bench nothing.
fn device() -> Option<Arc<Gpu>> {
    gpu(Mode::Native).map_err(|error| println!("skipped: {error}")).ok()
}

/// Measures every case of a kernel.
fn group(criterion: &mut Criterion, kernel: &str) {
    let Some(gpu) = device() else { return };
    let warm = std::env::var("QWGPU_BENCH_WARM").as_deref() == Ok("1");
    let mut bencher = Bencher::new(&gpu, warm).expect("room for the data");
    let mut group = criterion.benchmark_group(kernel);
    for case in cases(&gpu, kernel) {
        let (throughput, what) = if case.flops > COMPUTES * case.bytes {
            (Throughput::Elements(case.flops), "FLOP")
        } else {
            (Throughput::BytesDecimal(case.bytes), "GB")
        };
        group.throughput(throughput);
        let (mut idle, mut loaded) = (Some(&mut bencher), None);
        group.bench_function(format!("{} ({what})", case.name), |measurement| {
            // loaded on first use, so that what a filter leaves out takes no memory
            if let Some(bencher) = idle.take() {
                loaded = bencher.load(&case).map_err(|error| println!("skipped: {error}")).ok();
            }
            measurement.iter_custom(|n| {
                let ns = loaded.as_mut().map_or(Ok(n as f64), |loaded| loaded.total(n));
                Duration::from_nanos(ns.expect("the device works").max(1.0) as u64)
            });
        });
    }
}

fn kernels(criterion: &mut Criterion) {
    let Some(gpu) = device() else { return };
    let clock = if gpu.caps().timestamps { "GPU timestamps" } else { "wall clock" };
    println!("{}, by {clock}", gpu.info().label());
    argmax::bench(criterion);
    attention_decode::bench(criterion);
    attention_decode_coop::bench(criterion);
    attention_short::bench(criterion);
    attention_merge::bench(criterion);
    attention_prefill::bench(criterion);
    attention_prefill_coop::bench(criterion);
    combine_experts::bench(criterion);
    embed::bench(criterion);
    embed_step::bench(criterion);
    experts_down::bench(criterion);
    experts_down_dot::bench(criterion);
    experts_gate_up::bench(criterion);
    experts_gate_up_dot::bench(criterion);
    fill_random::bench(criterion);
    gate_up_bytes::bench(criterion);
    gate_up_dot::bench(criterion);
    group_experts::bench(criterion);
    matmul::bench(criterion);
    matmul_coop::bench(criterion);
    matmul_experts::bench(criterion);
    matmul_experts_coop::bench(criterion);
    matvec::bench(criterion);
    norm_gate_up::bench(criterion);
    norm_qkv_rope::bench(criterion);
    norm_quantize::bench(criterion);
    norm_to_f16::bench(criterion);
    matvec_dot::bench(criterion);
    penalty::bench(criterion);
    qkv_rope_dot::bench(criterion);
    norm_qkv_rope_dot::bench(criterion);
    quantize::bench(criterion);
    rms_norm::bench(criterion);
    rope::bench(criterion);
    router::bench(criterion);
    router_decode::bench(criterion);
    sample::bench(criterion);
    silu_mul::bench(criterion);
    silu_mul_to_f16::bench(criterion);
    to_f16::bench(criterion);
    topk::bench(criterion);
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    targets = kernels
}
criterion_main!(benches);
