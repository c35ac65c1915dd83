//! Every dense golden case, in f32, without subgroups, and with whatever the adapter has.

use crate::compare::{F16_TOLERANCE, F32_TOLERANCE, compare, diagnosis, stages};
use crate::golden::Golden;
use crate::support::{Arithmetic, Device, all_logits, generate, greedy, session};

/// Runs a case and compares hidden states, inner stages and logits of all positions, then the greedy tokens.
pub(crate) fn check_f32(case: &str, arithmetic: Arithmetic) {
    let Some(golden) = Golden::open(case) else { return };
    let device = Device::open(arithmetic);
    let model = device.load(&golden.checkpoint, 512);
    let label = format!("{case}, {arithmetic:?} on {}", device.gpu.info().label());

    let traces = session(&model)
        .trace(&golden.sequence())
        .unwrap_or_else(|error| panic!("{label}: {error}"));
    let stages = stages(&golden, &traces);
    let worst = stages.iter().map(|(_, difference)| difference.relative).fold(0.0, f32::max);
    let astray = stages.iter().any(|(_, difference)| difference.relative > F32_TOLERANCE);
    assert!(!astray, "{label}: {}", diagnosis(&stages, F32_TOLERANCE));

    let logits = golden.logits();
    let difference = compare(&all_logits(&mut session(&model), &golden.sequence()), &logits.values, logits.cols);
    println!(
        "{label}: {} stages within {worst:.1e} of the largest value, logits within {:.1e}",
        stages.len(),
        difference.relative
    );
    assert!(
        difference.relative <= F32_TOLERANCE,
        "{label}: logits off by {difference}; {}",
        diagnosis(&stages, F32_TOLERANCE)
    );

    let ids = generate(&mut session(&model), &golden.prompt, &greedy(golden.generated.len()));
    assert_eq!(ids, golden.generated, "{label}: greedy tokens");
}

/// Runs a case with f16 allowed: logits within what half precision may cost, and still the same greedy tokens.
fn check_f16(case: &str) {
    let Some(golden) = Golden::open(case) else { return };
    let device = Device::open(Arithmetic::Native);
    if !device.has_f16("parity") {
        return;
    }
    let model = device.load(&golden.checkpoint, 512);
    assert_eq!(model.kv(), qwgpu_runtime::Elem::F16, "an adapter with f16 keeps the KV cache in it");
    let label = format!("{case}, f16 on {}", device.gpu.info().label());

    let logits = golden.logits();
    let difference = compare(&all_logits(&mut session(&model), &golden.sequence()), &logits.values, logits.cols);
    println!("{label}: logits within {:.4}", difference.absolute);
    let where_astray = || {
        let traces = session(&model).trace(&golden.sequence());
        traces.map_or_else(
            |error| error.to_string(),
            |traces| diagnosis(&stages(&golden, &traces), F16_TOLERANCE / 10.0),
        )
    };
    assert!(
        difference.absolute <= F16_TOLERANCE,
        "{label}: logits off by {difference}; {}",
        where_astray()
    );

    let ids = generate(&mut session(&model), &golden.prompt, &greedy(golden.generated.len()));
    assert_eq!(ids, golden.generated, "{label}: greedy tokens; {}", where_astray());
}

/// A module of tests for each case, by the module's own `check_f32` and `check_f16`.
macro_rules! cases {
    ($($module:ident: $case:literal),* $(,)?) => {
        /// Every case that has tests here, for the tests of other modules.
        pub(crate) const CASES: &[&str] = &[$($case),*];
        $(mod $module {
            use super::{Arithmetic, check_f16, check_f32};

            #[test]
            fn f32() {
                check_f32($case, Arithmetic::F32);
            }

            #[test]
            fn portable() {
                check_f32($case, Arithmetic::Portable);
            }

            #[test]
            fn f16() {
                check_f16($case);
            }
        })*
    };
}

pub(crate) use cases;

cases! {
    dense_p1: "tiny-dense.p1",
    dense_p24: "tiny-dense.p24",
    dense_p200: "tiny-dense.p200",
    f32_p24: "tiny-dense-f32.p24",
    hd128_p24: "tiny-dense-hd128.p24",
    plain_p24: "tiny-dense-plain.p24",
    swa_p60: "tiny-swa.p60",
    yarn_p24: "tiny-yarn.p24",
    yarn_p150: "tiny-yarn.p150",
    yarn_p240: "tiny-yarn.p240",
}
