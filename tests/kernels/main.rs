//! Every kernel against its plain-loop reference, on the adapter that `QWGPU_TEST_ADAPTER` names; the cases live in `qwgpu-suite`.
//!
//! What cannot run on an adapter is printed and appended to the file that `QWGPU_SKIP_LOG` names.

mod argmax; // greedy choice
mod attention_decode; // few rows, split over the context
mod attention_merge; // the join of the splits
mod attention_prefill; // many rows, in tiles
mod embed; // embedding gather
mod fill_random; // random weights
mod matmul; // tiled products
mod matvec; // products of 1 to 8 rows
mod penalty; // repetition penalty
mod rms_norm; // the norm
mod rope; // rotation and cache write
mod silu_mul; // SwiGLU's middle
mod topk; // the k largest logits

use std::io::Write;

/// Runs every case of a kernel and fails with all that failed.
#[track_caller]
fn check(kernel: &str) {
    let report = qwgpu_suite::run(kernel);
    println!("{kernel} on {report}");
    log_skips(&report.skipped);
    let n = report.failed.len();
    let shown = report.failed[..n.min(12)].join("\n  ");
    assert!(
        report.passed(),
        "{kernel} on {}: {} passed, {n} failed:\n  {shown}",
        report.adapter,
        report.n_passed
    );
}

/// A mode that would repeat another one is no loss; it is printed here, and only real losses go to the log.
fn log_skips(skipped: &[String]) {
    let log = std::env::var_os("QWGPU_SKIP_LOG");
    for line in skipped {
        println!("skipped: {line}");
        if let Some(path) = log.as_ref().filter(|_| line.ends_with("needs f16")) {
            let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
            file.and_then(|mut file| writeln!(file, "skipped: {line}"))
                .expect("QWGPU_SKIP_LOG can be written");
        }
    }
}
