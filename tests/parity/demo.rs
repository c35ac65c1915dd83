//! The embedded demo model says what transformers says with its weights, and reads plain English.

use std::path::Path;
use std::sync::Arc;

use qwgpu_model::{Model, checkpoint::Checkpoint, demo};

use crate::golden::{ids, read_json, text};
use crate::support::{Arithmetic, Device, all_logits, generate, greedy, repository, session};

/// How far below the largest logit the golden token's may be: some golden choices were won by less than 0.01.
pub(crate) const MARGIN: f32 = 0.02;

fn load(device: &Device) -> Arc<Model> {
    let checkpoint = demo::checkpoint().expect("the embedded model");
    device.load(&checkpoint, 512)
}

/// Mean negative log-likelihood of each token but the first, in nats.
pub(crate) fn mean_nll(logits: &[f32], ids: &[u32]) -> f64 {
    let vocab_size = logits.len() / ids.len();
    let nll = |(row, target): (&[f32], &u32)| {
        let largest = f64::from(row.iter().copied().fold(f32::MIN, f32::max));
        let sum: f64 = row.iter().map(|logit| (f64::from(*logit) - largest).exp()).sum();
        largest + sum.ln() - f64::from(row[*target as usize])
    };
    let all: f64 = logits.chunks_exact(vocab_size).zip(&ids[1..]).map(nll).sum();
    all / (ids.len() - 1) as f64
}

fn check_goldens(arithmetic: Arithmetic, margin: f32) {
    let checkpoint = demo::checkpoint().expect("the embedded model");
    check_goldens_of(&checkpoint, &repository("model/demo/golden.json"), arithmetic, margin);
}

/// Feeds each golden continuation and asks at every position whether its token is the best or as good as the best.
pub(crate) fn check_goldens_of(checkpoint: &Checkpoint, goldens: &Path, arithmetic: Arithmetic, margin: f32) {
    let device = Device::open(arithmetic);
    let model = device.load(checkpoint, 512);
    let golden = read_json(goldens);
    let prompts = golden["prompts"].as_array().expect("a list of prompts");
    assert_eq!(prompts.len(), 6);
    let mut worst = 0.0f32;
    for case in prompts {
        let (prompt, continuation) = (ids(&case["prompt_ids"]), ids(&case["greedy_ids"]));
        let tokenizer = model.tokenizer().expect("the demo model's tokenizer");
        assert_eq!(
            tokenizer.encode(text(case, "prompt")).expect("ids"),
            prompt,
            "ids of the prompt {}",
            case["prompt"]
        );

        let sequence = [prompt.as_slice(), &continuation].concat();
        let logits = all_logits(&mut session(&model), &sequence);
        let rows = logits.chunks_exact(model.config().vocab_size).skip(prompt.len() - 1);
        for (step, (row, id)) in rows.zip(&continuation).enumerate() {
            let largest = row.iter().copied().fold(f32::MIN, f32::max);
            let behind = largest - row[*id as usize];
            worst = worst.max(behind);
            assert!(
                behind <= margin,
                "{:?} after {}, step {step}: token {id} is {behind} behind the best",
                arithmetic,
                case["prompt"]
            );
        }
    }
    println!(
        "{}, {arithmetic:?} on {}: golden tokens at most {worst:.4} behind the best",
        checkpoint.name(),
        device.gpu.info().label()
    );
}

#[test]
fn golden_tokens() {
    check_goldens(Arithmetic::F32, MARGIN);
}

#[test]
fn golden_tokens_with_f16() {
    if !Device::open(Arithmetic::Native).has_f16("demo model") {
        return;
    }
    // Half precision moves each of two logits.
    check_goldens(Arithmetic::Native, 3.0 * MARGIN);
}

#[test]
fn free_running_text_starts_as_the_golden_one() {
    let device = Device::open(Arithmetic::F32);
    let model = load(&device);
    let golden = read_json(&repository("model/demo/golden.json"));
    for case in golden["prompts"].as_array().expect("a list of prompts") {
        let (prompt, continuation) = (ids(&case["prompt_ids"]), ids(&case["greedy_ids"]));
        // Up to the first choice that rounding could turn, each token follows from the one before.
        let margins = case["margins"].as_array().expect("a margin for each step");
        let sure = margins[..24]
            .iter()
            .take_while(|margin| margin.as_f64().expect("a number") > f64::from(MARGIN))
            .count();
        let generated = generate(&mut session(&model), &prompt, &greedy(sure));
        assert_eq!(generated, continuation[..sure], "{}", case["prompt"]);
    }
}

#[test]
fn stories_not_trained_on_are_likely() {
    let device = Device::open(Arithmetic::Native);
    let model = load(&device);
    let stories = std::fs::read_to_string(repository("model/demo/heldout.txt")).expect("held-out stories");
    // Text from its very beginning, so that nothing depends on how it was packed for training; its loss there is 0.345 on average.
    let story = stories.split("<|endoftext|>").next().expect("a story").trim();
    let ids = model.tokenizer().expect("a tokenizer").encode(story).expect("ids");
    let nll = mean_nll(&all_logits(&mut session(&model), &ids), &ids);
    println!(
        "demo on {}: {} tokens of a held-out story at {nll:.4} nats each",
        device.gpu.info().label(),
        ids.len()
    );
    assert!(nll < 0.8, "{nll} nats a token");
}
