//! Every kernel against its plain-loop reference, on the adapter that `QWGPU_TEST_ADAPTER` names; the cases live in `qwgpu-suite`.
//!
//! The quick tier runs; `QWGPU_SLOW=1` runs the full one. What cannot run on an adapter is printed and appended to the file that
//! `QWGPU_SKIP_LOG` names.

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
mod peak; // the adapter's ceilings
mod penalty; // repetition penalty
mod qkv_rope_dot; // one token: q, k, v with integer dot products, rotation and cache write
mod quantize; // activations to bytes
mod rms_norm; // the norm
mod rope; // rotation and cache write
mod router; // the choice of experts
mod sample; // the draw of a token
mod self_test; // known cases of the optional paths
mod silu_mul; // SwiGLU's middle
mod to_f16; // rows to f16
mod topk; // candidates under top-k
mod upload; // large writes

use std::io::Write;

use qwgpu_suite::{Devices, Selection, Tier};

/// Runs every case of a kernel and fails with all that failed.
#[track_caller]
fn check(kernel: &str) {
    static DEVICES: std::sync::OnceLock<Devices> = std::sync::OnceLock::new();
    let devices = DEVICES.get_or_init(Devices::from_env);
    let slow = std::env::var("QWGPU_SLOW").as_deref() == Ok("1");
    let tier = if slow { Tier::Full } else { Tier::Quick };
    let report = qwgpu_suite::run(devices, &Selection::kernel(kernel, tier), &mut |_| true);
    let report = report.unwrap_or_else(|error| panic!("{kernel}: {error}"));
    println!("{kernel} on {report}");
    for ((kernel, reason), n) in report.skips() {
        skip(&format!("{n} cases of {kernel} on {}: {reason}", report.adapter.label()));
    }
    let counts = report.counts();
    if counts.passed + counts.failed == 0 && counts.skipped > 0 {
        return; // a kernel for matrix units on an adapter without
    }
    let failures: Vec<String> = report
        .failures()
        .take(12)
        .map(|(case, failure)| format!("{} {} {}: {failure}", case.id, case.mode.name(), case.name))
        .collect();
    assert!(report.passed(), "{kernel} on {report}:\n  {}", failures.join("\n  "));
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
