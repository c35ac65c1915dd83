//! GPU time of each kernel on the shapes of Qwen2-0.5B and 7B, from timestamps: what a change of a kernel gained.
//!
//! The adapter is the one that `QWGPU_TEST_ADAPTER` or `QWGPU_ADAPTER` names. CPU drivers get small shapes. With `--test` everything
//! runs once. Throughput counts the bytes that must be read or written at least; for products of many rows, multiply-adds.

mod attention;
mod matmul;
mod matvec;
mod others;

use std::{sync::Arc, time::Duration};

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use qwgpu_runtime::{Gpu, Pass};
use qwgpu_suite::{Mode, gpu, timings};

type Group<'c> = BenchmarkGroup<'c, WallTime>;

/// The device, or a reason to bench nothing.
fn device() -> Option<Arc<Gpu>> {
    match gpu(Mode::Native) {
        Ok(gpu) if gpu.caps().timestamps => Some(gpu),
        Ok(gpu) => {
            println!("skipped: {} has no timestamps", gpu.info().label());
            None
        }
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

/// Measures what `record` dispatches. A GPU clocks down when idle, so a pass repeats it many times and the mean counts.
fn measure(group: &mut Group<'_>, gpu: &Gpu, name: &str, throughput: Throughput, record: impl Fn(&mut Pass<'_>)) {
    group.throughput(throughput);
    let batch = if gpu.caps().cpu { 1 } else { 100 };
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|n| {
            let mut total = 0.0;
            for begin in (0..n).step_by(batch) {
                let now = (n - begin).min(batch as u64);
                let time = timings(gpu, |pass| (0..now).for_each(|_| record(pass)));
                total += time.expect("the device works").expect("device() asked for timestamps");
            }
            Duration::from_nanos(total as u64)
        });
    });
}

fn kernels(criterion: &mut Criterion) {
    let Some(gpu) = device() else { return };
    println!("{}", gpu.info().label());
    matvec::bench(criterion, &gpu);
    matmul::bench(criterion, &gpu);
    attention::bench(criterion, &gpu);
    others::bench(criterion, &gpu);
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = kernels
}
criterion_main!(benches);
