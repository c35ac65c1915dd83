//! However a prompt is cut up on its way in, the result is the same.
//!
//! Prefill in steps of 1, 7 and 16 tokens, cut by the caller or by the session itself, against all at once; then one token at
//! a time. Single tokens take other kernels than many, and steps of 7 and 16 cross the cache's blocks and the attention's tiles
//! at different places.

use std::sync::Arc;

use qwgpu_model::Model;

use crate::compare::{F32_TOLERANCE, ROUNDING, compare};
use crate::dense::CASES;
use crate::golden::Golden;
use crate::support::{Arithmetic, Device, session};

/// Tokens of the continuation that follow the prompt one at a time.
const N_DECODED: usize = 6;

/// Logits after the prompt, fed in pieces of `chunk` tokens, and after each token of the continuation, fed one at a time.
fn logits_of(model: &Arc<Model>, golden: &Golden, chunk: usize) -> Vec<f32> {
    let mut session = session(model);
    let mut logits = Vec::new();
    for piece in golden.prompt.chunks(chunk) {
        session.feed(piece).unwrap_or_else(|error| panic!("{}: {error}", golden.name));
    }
    logits.extend(session.logits().expect("logits after the prompt"));
    for id in &golden.generated[..N_DECODED] {
        session.feed(&[*id]).unwrap_or_else(|error| panic!("{}: {error}", golden.name));
        logits.extend(session.logits().expect("logits after a token"));
    }
    assert_eq!(
        session.ids(),
        &golden.sequence()[..golden.prompt.len() + N_DECODED],
        "{}: tokens in the cache",
        golden.name
    );
    logits
}

fn check(arithmetic: Arithmetic, cases: &[&str]) {
    for golden in cases.iter().filter_map(|case| Golden::open(case)) {
        let device = Device::open(arithmetic);
        let whole = golden.prompt.len();
        let large = device.load(&golden.checkpoint, 512);
        let at_once = logits_of(&large, &golden, whole);
        let vocab_size = large.config().vocab_size;
        let expected = &golden.logits().values[(whole - 1) * vocab_size..(whole + N_DECODED) * vocab_size];
        let to_golden = compare(&at_once, expected, vocab_size);
        assert!(to_golden.relative <= F32_TOLERANCE, "{}, all at once: {to_golden}", golden.name);

        let mut worst = 0.0f32;
        let mut same = |how: String, logits: &[f32]| {
            let difference = compare(logits, &at_once, vocab_size);
            worst = worst.max(difference.relative);
            let label = format!("{}, {arithmetic:?} on {}", golden.name, device.gpu.info().label());
            assert!(
                difference.relative <= ROUNDING,
                "{label}: {how} is not as all at once: {difference}"
            );
        };
        for chunk in [1, 7] {
            same(format!("fed in pieces of {chunk}"), &logits_of(&large, &golden, chunk));
        }
        let small = device.load(&golden.checkpoint, 16);
        same("in prefill steps of 16".into(), &logits_of(&small, &golden, whole));
        println!("{}, {arithmetic:?}: chunks within {worst:.1e} of all at once", golden.name);
    }
}

#[test]
fn same_in_any_chunks() {
    check(Arithmetic::F32, CASES);
}

#[test]
fn same_in_any_chunks_with_experts() {
    // p300 has router calls within 0.002, which rounding may turn
    let sure: Vec<&str> = crate::moe::CASES.iter().copied().filter(|case| *case != "tiny-moe.p300").collect();
    check(Arithmetic::F32, &sure);
}

#[test]
fn same_in_any_chunks_without_subgroups() {
    // One for each size of heads, and the window; all of them would only take longer.
    check(Arithmetic::Portable, &["tiny-dense-hd128.p24", "tiny-swa.p60"]);
}
