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

use std::{collections::BTreeMap, io::Write};

/// Runs every case of a kernel and fails with all that failed.
#[track_caller]
fn check(kernel: &str) {
    let report = qwgpu_suite::run(kernel);
    println!("{kernel} on {report}");
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, reason) in &report.skipped {
        *reasons.entry(reason).or_default() += 1;
    }
    for (reason, n) in reasons {
        skip(&format!("{n} cases of {kernel} on {}: {reason}", report.adapter));
    }
    let n = report.failed.len();
    let shown = report.failed[..n.min(12)].join("\n  ");
    assert!(
        report.passed(),
        "{kernel} on {}: {} passed, {n} failed:\n  {shown}",
        report.adapter,
        report.n_passed
    );
}

/// Says what did not run, where the user looks and where the script collects it.
fn skip(what: &str) {
    println!("skipped: {what}");
    if let Some(path) = std::env::var_os("QWGPU_SKIP_LOG").filter(|path| !path.is_empty()) {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| writeln!(file, "skipped: {what}"))
            .expect("QWGPU_SKIP_LOG can be written");
    }
}
