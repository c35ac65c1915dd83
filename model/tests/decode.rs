//! What a step of decoding costs: so many dispatches and no more, nothing allocated or compiled after the first token, and the same
//! numbers as the unfused kernels give.

use std::sync::Arc;

use qwgpu_model::{GenerateOptions, LoadOptions, Model, Session, config::Config, sampler::SamplerConfig};
use qwgpu_runtime::{Counts, DType, Elem, Gpu, GpuOptions};

/// Norm and q, k, v; attention and its merge; output; norm, gate and up; down.
const A_LAYER: u64 = 6;
/// The embedding with the token's place.
const EMBED: u64 = 1;
/// The final norm and the product with the vocabulary.
const HEAD: u64 = 2;
/// Rounds of the greedy choice.
const ARGMAX: u64 = 2;

fn gpu(max_binding: Option<u64>) -> Arc<Gpu> {
    let mut options = GpuOptions::from_env().expect("environment");
    options.adapter = std::env::var("QWGPU_TEST_ADAPTER").ok().or(options.adapter);
    options.max_binding = max_binding;
    Gpu::open(&options).expect("an adapter; script/setup installs a software one")
}

/// 7B's proportions, small: an untied head, head_dim 128, seven query heads to a kv head, and logits for two rounds of argmax.
fn small() -> Config {
    let mut config = Config::preset("7b").expect("a preset");
    (config.d_model, config.d_ff, config.n_layers) = (256, 704, 3);
    (config.n_heads, config.n_kv_heads, config.head_dim, config.vocab_size) = (7, 1, 128, 3001);
    config.windows = vec![None, Some(9), None];
    config
}

fn session(gpu: &Arc<Gpu>, batch: usize) -> Session {
    let options = LoadOptions {
        dtype: Some(DType::F32),
        kv: Some(Elem::F32),
        ctx: Some(100),
        batch,
    };
    Session::new(&Model::random(gpu, small(), &options, 7).expect("a model")).expect("a session")
}

/// What each token of a greedy answer asked of the device.
fn counts_of_tokens(max_tokens: usize) -> Vec<Counts> {
    let gpu = gpu(None);
    let mut session = session(&gpu, 64);
    let options = GenerateOptions {
        sampler: SamplerConfig::greedy(),
        max_tokens,
        stop_ids: Vec::new(),
    };
    let tokens = session.generate(&[1, 2, 3, 4, 5], &options).expect("a generation");
    let mut counts = Vec::new();
    for token in tokens {
        token.expect("a token");
        counts.push(gpu.counts());
    }
    assert_eq!(counts.len(), max_tokens);
    counts
}

#[test]
fn a_step_takes_six_dispatches_a_layer() {
    let counts = counts_of_tokens(8);
    let expected = small().n_layers as u64 * A_LAYER + EMBED + HEAD + ARGMAX;
    // the last call has no step to run ahead of it
    for (step, pair) in counts[..7].windows(2).enumerate() {
        assert_eq!(pair[1].dispatches - pair[0].dispatches, expected, "step {step}: a fusion was lost");
    }
}

#[test]
fn nothing_is_allocated_or_compiled_after_the_first_token() {
    let counts = counts_of_tokens(70); // into the cache's second block
    let first = counts[0];
    for (step, now) in counts.iter().enumerate() {
        assert_eq!(
            (now.buffers, now.pipelines, now.bind_groups),
            (first.buffers, first.pipelines, first.bind_groups),
            "token {step}: buffers, pipelines, bind groups"
        );
    }
}

/// Bindings too small for the stacked matrices leave only the unfused kernels.
#[test]
fn split_matrices_take_the_unfused_kernels_and_give_the_same_logits() {
    let ids: Vec<u32> = (0..20).map(|i| (i * 389 + 11) % 1003).collect();
    let logits = |gpu: &Arc<Gpu>| {
        let mut session = session(gpu, 1);
        let before = gpu.counts().dispatches;
        session.feed(&ids).expect("a forward pass");
        (session.logits().expect("logits"), gpu.counts().dispatches - before)
    };
    let (fused, few) = logits(&gpu(None));
    let (unfused, many) = logits(&gpu(Some(512 << 10)));
    assert!(few < many, "{few} and {many} dispatches");
    let largest = unfused.iter().fold(0.0, |m: f32, x| m.max(x.abs()));
    let worst = fused.iter().zip(&unfused).fold(0.0, |m: f32, (a, b)| m.max((a - b).abs()));
    assert!(
        worst <= 1e-4 * largest,
        "fused and unfused logits are {worst} apart, the largest is {largest}"
    );
}
