//! Every mixture-of-experts golden, in f32, without subgroups, and with whatever the adapter has; then the demo model of that kind.

use qwgpu_model::{Trace, checkpoint::Checkpoint};

use crate::compare::{F16_TOLERANCE, compare};
use crate::demo::check_goldens_of;
use crate::dense::{cases, check_f32};
use crate::golden::Golden;
use crate::support::{Arithmetic, Device, all_logits, find, generate, greedy, session, skip};

/// Router logits that lie closer than this may change places in half precision.
pub(crate) const CLOSE_CALL: f32 = 0.05;

/// The first token that another expert is chosen for, and by how much the closest of such calls was decided in `exact`.
pub(crate) fn first_flip(exact: &[Trace], got: &[Trace]) -> Option<(usize, f32)> {
    let ids = |traces: &[Trace]| -> Vec<Trace> { traces.iter().filter(|trace| trace.name == "topk_ids").cloned().collect() };
    let mut flip: Option<(usize, f32)> = None;
    for (exact_ids, got_ids) in ids(exact).iter().zip(ids(got)) {
        let logits = exact
            .iter()
            .find(|trace| (trace.layer, trace.name) == (exact_ids.layer, "router_logits"));
        let logits = logits.expect("router logits of a layer that has chosen");
        let k = exact_ids.cols;
        for (t, (a, b)) in exact_ids.values.chunks(k).zip(got_ids.values.chunks(k)).enumerate() {
            let row = &logits.values[t * logits.cols..];
            // what one has chosen and the other not; the order among the chosen does not matter
            let lost = a.iter().filter(|id| !b.contains(id)).map(|&id| row[id as usize]);
            let won = b.iter().filter(|id| !a.contains(id)).map(|&id| row[id as usize]);
            let gap = lost.fold(f32::MIN, f32::max) - won.fold(f32::MAX, f32::min);
            if a.iter().any(|id| !b.contains(id)) && flip.is_none_or(|(first, _)| t < first) {
                flip = Some((t, gap));
            }
        }
    }
    flip
}

/// With f16 allowed: the same experts but for close calls, up to the first of which logits stay within what half precision may cost, and
/// the same greedy tokens.
fn check_f16(case: &str) {
    let Some(golden) = Golden::open(case) else { return };
    let traces = |arithmetic| {
        let device = Device::open(arithmetic);
        let model = device.load(&golden.checkpoint, 512);
        session(&model)
            .trace(&golden.sequence())
            .unwrap_or_else(|error| panic!("{case}: {error}"))
    };
    if !Device::open(Arithmetic::Native).has_f16("parity of experts") {
        return;
    }
    let flip = first_flip(&traces(Arithmetic::F32), &traces(Arithmetic::Native));
    let n_sure = flip.map_or(golden.sequence().len(), |(t, _)| t);
    let device = Device::open(Arithmetic::Native);
    let model = device.load(&golden.checkpoint, 512);
    let label = format!("{case}, f16 on {}", device.gpu.info().label());
    if let Some((t, gap)) = flip {
        println!("{label}: token {t} goes to another expert, whose logit was {gap:.4} behind");
        assert!(
            gap.abs() <= CLOSE_CALL,
            "{label}: token {t} goes to an expert that was {gap} behind"
        );
    }
    let logits = golden.logits();
    let got = all_logits(&mut session(&model), &golden.sequence());
    if n_sure > 0 {
        let sure = n_sure * logits.cols;
        let difference = compare(&got[..sure], &logits.values[..sure], logits.cols);
        println!("{label}: logits of {n_sure} positions within {:.4}", difference.absolute);
        assert!(difference.absolute <= F16_TOLERANCE, "{label}: logits off by {difference}");
    }
    let ids = generate(&mut session(&model), &golden.prompt, &greedy(golden.generated.len()));
    assert_eq!(ids, golden.generated, "{label}: greedy tokens");
}

cases! {
    moe_p1: "tiny-moe.p1",
    moe_p24: "tiny-moe.p24",
    moe_p100: "tiny-moe.p100",
    moe_p300: "tiny-moe.p300",
    mixed_p24: "tiny-moe-mixed.p24",
    norm_p24: "tiny-moe-norm.p24",
}

/// The demo model of experts, trained rather than random; its shared expert is 2.4 times as wide as a routed one.
fn check_demo(arithmetic: Arithmetic, margin: f32) {
    let Some(folder) = find("tests/golden/demo-moe", "models/demo-moe") else {
        skip("demo model of experts (needs ../shared/models)");
        return;
    };
    let checkpoint = Checkpoint::open(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    check_goldens_of(&checkpoint, &folder.join("golden.json"), arithmetic, margin);
}

#[test]
fn demo_golden_tokens() {
    check_demo(Arithmetic::F32, crate::demo::MARGIN);
}

#[test]
fn demo_golden_tokens_with_f16() {
    if Device::open(Arithmetic::Native).has_f16("demo model of experts") {
        check_demo(Arithmetic::Native, 3.0 * crate::demo::MARGIN);
    }
}
