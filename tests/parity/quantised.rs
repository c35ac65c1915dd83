//! Weights in 8 and 4 bit: the golden checkpoints, quantised at load, against plain f64 loops over the dequantised weights.

use qwgpu_model::{
    LoadOptions, Session,
    check::{self, Checked},
};
use qwgpu_runtime::DType;

use crate::golden::Golden;
use crate::moe::{CLOSE_CALL, first_flip};
use crate::support::{Arithmetic, Device};

const DENSE: &[&str] = &["tiny-dense.p24", "tiny-dense-f32.p24", "tiny-dense-hd128.p24", "tiny-yarn.p24"];
const EXPERTS: &[&str] = &["tiny-moe-norm.p24", "tiny-moe.p24", "tiny-moe-mixed.p24"];

/// A case with its weights quantised, loaded with these capabilities.
fn open(case: &str, dtype: DType, device: &Device, arithmetic: Arithmetic) -> Option<(Golden, Session, String)> {
    let golden = Golden::open(case)?;
    let options = LoadOptions {
        dtype: Some(dtype),
        kv: device.kv(),
        ..LoadOptions::default()
    };
    let label = format!("{case} as {dtype}, {arithmetic:?} on {}", device.gpu.info().label());
    let model = device
        .try_load(&golden.checkpoint, &options)
        .unwrap_or_else(|error| panic!("{label}: {error}"));
    let session = Session::new(&model).unwrap_or_else(|error| panic!("{label}: {error}"));
    Some((golden, session, label))
}

fn check_end_to_end(session: &mut Session, ids: &[u32], label: &str) {
    let checked = check::end_to_end(session, ids).unwrap_or_else(|error| panic!("{label}: {error}"));
    let n_tokens = ids.len();
    println!("{label}: {n_tokens} tokens, logits within {:.3} of what is allowed", checked.worst);
    assert!(
        checked.passed(),
        "{label}: {n_tokens} tokens are off by {:.2} tolerances",
        checked.worst
    );
}

fn check_quantised(cases: &[&str], dtype: DType, arithmetic: Arithmetic) {
    let device = Device::open(arithmetic);
    for case in cases {
        let Some((golden, mut session, label)) = open(case, dtype, &device, arithmetic) else {
            continue;
        };
        // a prompt takes the tiled products, a single token the mat-vec
        for n_tokens in [golden.prompt.len(), 1] {
            check_end_to_end(&mut session, &golden.prompt[..n_tokens], &label);
        }
    }
}

/// Compares operations one by one, each with what its own inputs and its own rounding explain.
fn check_operations(checked: &[Checked], label: &str) {
    assert!(
        checked.iter().any(|c| c.operation == "mixture"),
        "{label}: no sparse layer was checked"
    );
    for c in checked {
        assert!(
            c.passed(),
            "{label}: {} in layer {} is off by {:.2} tolerances",
            c.operation,
            c.layer,
            c.worst
        );
    }
    let worst = checked.iter().map(|c| c.worst).fold(0.0, f64::max);
    println!("{label}: {} operations within {worst:.3} of what is allowed", checked.len());
}

/// With everything that the adapter has, where a close call of a router may go the other way than in f32: then the tokens before it are
/// compared end to end, and for all of them, and for a step, every operation. A step may also round the inputs of experts to bytes, for
/// which the end-to-end tolerance does not provide.
fn check_native_experts(case: &str, dtype: DType) {
    let exact = {
        let device = Device::open(Arithmetic::F32);
        let Some((golden, mut session, label)) = open(case, dtype, &device, Arithmetic::F32) else {
            return;
        };
        session.trace(&golden.prompt).unwrap_or_else(|error| panic!("{label}: {error}"))
    };
    let device = Device::open(Arithmetic::Native);
    let Some((golden, mut session, label)) = open(case, dtype, &device, Arithmetic::Native) else {
        return;
    };
    let fail = |error| -> ! { panic!("{label}: {error}") };
    let traces = session.trace(&golden.prompt).unwrap_or_else(|error| fail(error));
    let flip = first_flip(&exact, &traces);
    if let Some((t, gap)) = flip {
        println!("{label}: token {t} goes to another expert, whose logit was {gap:.4} behind");
        assert!(
            gap.abs() <= CLOSE_CALL,
            "{label}: token {t} goes to an expert that was {gap} behind"
        );
    }
    let n_sure = flip.map_or(golden.prompt.len(), |(t, _)| t);
    if n_sure > 0 {
        check_end_to_end(&mut session, &golden.prompt[..n_sure], &label);
    }
    let prompt = check::operations(&mut session, &golden.prompt, 32).unwrap_or_else(|error| fail(error));
    check_operations(&prompt, &format!("{label}: the prompt"));
    let step = check::step_operations(&mut session, &golden.prompt, 32).unwrap_or_else(|error| fail(error));
    check_operations(&step, &format!("{label}: a step"));
}

#[test]
fn q8_agrees_with_f64() {
    check_quantised(DENSE, DType::Q8, Arithmetic::F32);
    check_quantised(DENSE, DType::Q8, Arithmetic::Portable);
}

#[test]
fn q4_agrees_with_f64() {
    check_quantised(DENSE, DType::Q4, Arithmetic::F32);
    check_quantised(DENSE, DType::Q4, Arithmetic::Portable);
}

#[test]
fn q8_experts_agree_with_f64() {
    check_quantised(EXPERTS, DType::Q8, Arithmetic::F32);
    check_quantised(EXPERTS, DType::Q8, Arithmetic::Portable);
}

#[test]
fn q4_experts_agree_with_f64() {
    check_quantised(EXPERTS, DType::Q4, Arithmetic::F32);
    check_quantised(EXPERTS, DType::Q4, Arithmetic::Portable);
}

#[test]
fn quantised_weights_go_with_an_f16_cache() {
    if Device::open(Arithmetic::Native).has_f16("parity of quantised weights") {
        check_quantised(DENSE, DType::Q4, Arithmetic::Native);
    }
}

#[test]
fn quantised_experts_go_with_an_f16_cache() {
    if Device::open(Arithmetic::Native).has_f16("parity of quantised experts") {
        for case in EXPERTS {
            check_native_experts(case, DType::Q8);
            check_native_experts(case, DType::Q4);
        }
    }
}
