//! A real English-speaking model of 135M parameters against transformers: the slow tier (`QWGPU_SLOW=1`).
//!
//! The checkpoint is SmolLM2-135M-Instruct in Qwen2's layout, in the folder that `QWGPU_SMOLLM2` names (`script/test --slow` makes
//! it). Thirty layers and 2,048 tokens of prose show drift that tiny models hide, and its width of 576 is no multiple of 128.
//!
//! `QWGPU_SMOLLM2_MOE` names the same model as a mixture of experts. Each of its eight experts is half the dense network with the neurons
//! in an order of its own, two of them are chosen with weights that add up to 1, and the shared expert is the dense network, behind a
//! gate of one half: whatever the router chooses, the sum is the dense layer, unless experts are mixed up or weighted wrongly.

use std::path::Path;
use std::sync::Arc;

use qwgpu_model::{GenerateOptions, Model, StopReason, checkpoint::Checkpoint};
use serde_json::Value;

use crate::demo::mean_nll;
use crate::golden::{ids, read_json, text};
use crate::support::{Arithmetic, Device, all_logits, find, generate, greedy, repository, session, skip, variable};

/// The checkpoint, or `None` and a line that says so.
fn checkpoint(what: &str) -> Option<Checkpoint> {
    checkpoint_of("QWGPU_SMOLLM2", what)
}

/// The checkpoint in the folder that an environment variable names, or `None` and a line that says so.
fn checkpoint_of(folder: &str, what: &str) -> Option<Checkpoint> {
    if variable("QWGPU_SLOW").is_none_or(|slow| slow == "0") {
        skip(&format!("SmolLM2 {what} (slow tier: script/test --slow)"));
        return None;
    }
    let Some(path) = variable(folder) else {
        skip(&format!("SmolLM2 {what} ({folder} names no checkpoint)"));
        return None;
    };
    Some(Checkpoint::open(Path::new(&path)).unwrap_or_else(|error| panic!("{folder}={path}: {error}")))
}

fn goldens() -> Value {
    read_json(&repository("tests/golden/cases/smollm2.json"))
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

#[test]
fn greedy_tokens_in_full() {
    let Some(checkpoint) = checkpoint("greedy tokens") else { return };
    check_greedy(&checkpoint);
}

#[test]
fn experts_give_the_dense_models_greedy_tokens() {
    let Some(checkpoint) = checkpoint_of("QWGPU_SMOLLM2_MOE", "greedy tokens of a mixture of experts") else {
        return;
    };
    let config = checkpoint.config();
    assert!(
        (0..config.n_layers).all(|layer| config.experts(layer).is_some()),
        "every layer is sparse"
    );
    check_greedy(&checkpoint);
}

/// Every prompt's ids, greedy tokens and end.
fn check_greedy(checkpoint: &Checkpoint) {
    let device = Device::open(Arithmetic::F32);
    let model = device.load(checkpoint, 512);
    let tokenizer = model.tokenizer().expect("a tokenizer");
    let goldens = goldens();
    let mut session = session(&model);
    for case in goldens["prompts"].as_array().expect("prompts") {
        let (prompt, expected) = (ids(&case["input_ids"]), ids(&case["generated_ids"]));
        assert_eq!(
            tokenizer.encode(text(case, "prompt")).expect("ids"),
            prompt,
            "ids of {}",
            case["prompt"]
        );
        let generated = generate(&mut session, &prompt, &greedy(expected.len()));
        assert_eq!(generated, expected, "{}: {}", case["prompt"], tokenizer.decode(&generated, true));
        // Where the model ended its turn, the stop ids of its own files end it too.
        if text(case, "stopped") == "eos" {
            let options = GenerateOptions {
                stop_ids: model.stop_ids().to_vec(),
                ..greedy(expected.len() + 8)
            };
            let mut tokens = session.generate(&prompt, &options).expect("tokens");
            assert_eq!(tokens.by_ref().count(), expected.len() - 1);
            assert!(matches!(tokens.stop_reason(), Some(StopReason::StopToken(_))));
        }
    }
}

/// Negative log-likelihoods of the paragraph and of the novel's windows, within `tolerance` of transformers'.
fn check_perplexity(model: &Arc<Model>, label: &str, tolerance: f64) {
    let goldens = goldens();
    let compare = |what: &str, ids: &[u32], expected: f64| {
        let nll = mean_nll(&all_logits(&mut session(model), ids), ids);
        println!(
            "SmolLM2, {label}: {what}: mean nll {nll:.6}, {:+.1e} from the golden",
            nll - expected
        );
        assert!(
            (nll - expected).abs() <= tolerance,
            "{label}: {what}: mean nll {nll}, golden {expected}"
        );
    };
    let paragraph = &goldens["perplexity"];
    compare("paragraph", &ids(&paragraph["input_ids"]), number(&paragraph["mean_nll"]));

    let long = &goldens["long_text"];
    let Some(novel) = find("tests/golden/northanger_abbey.txt", text(long, "file")) else {
        skip("SmolLM2 perplexity of a novel (needs ../shared/text)");
        return;
    };
    let novel = std::fs::read_to_string(novel).expect("the novel");
    let tokens = model.tokenizer().expect("a tokenizer").encode(&novel).expect("ids");
    assert_eq!(tokens.len() as f64, number(&long["tokens_in_file"]));
    assert_eq!(tokens[..16], ids(&long["first_16_ids"]));
    let window = number(&long["window"]) as usize;
    let windows = long["mean_nll"].as_array().expect("a value for each window");
    for (i, (window, expected)) in tokens.chunks(window).zip(windows).enumerate() {
        compare(&format!("window {i} of the novel"), window, number(expected));
    }
}

#[test]
fn perplexity_in_f32() {
    let Some(checkpoint) = checkpoint("perplexity in f32") else {
        return;
    };
    let device = Device::open(Arithmetic::F32);
    check_perplexity(
        &device.load(&checkpoint, 512),
        &format!("f32 on {}", device.gpu.info().label()),
        2e-4,
    );
}

#[test]
fn perplexity_with_f16() {
    let Some(checkpoint) = checkpoint("perplexity with f16") else {
        return;
    };
    let device = Device::open(Arithmetic::Native);
    if device.has_f16("SmolLM2 perplexity") {
        check_perplexity(
            &device.load(&checkpoint, 512),
            &format!("f16 on {}", device.gpu.info().label()),
            2e-3,
        );
    }
}
