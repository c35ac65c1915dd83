//! What a step of decoding costs: so many dispatches and no more, nothing allocated or compiled after the first token, and the same
//! numbers as the unfused kernels give.
//!
//! Integer dot products are taken here on CPU drivers too.

use std::sync::Arc;

use qwgpu_model::{
    GenerateOptions, LoadOptions, Model, Session,
    config::{Config, Moe},
    sampler::SamplerConfig,
};
use qwgpu_runtime::{Counts, DType, Elem, Gpu, GpuOptions, kernels::quantize};

/// Norm and q, k, v; attention; output; norm, gate and up; down.
const A_LAYER: u64 = 5;
/// The same with the router before gate and up.
const A_SPARSE_LAYER: u64 = 6;
/// The merge of attention, in each layer, where the context is split.
const MERGE: u64 = 1;
/// What turns the input of a product to bytes, for integer dot products with a large quantised matrix.
const TO_BYTES: u64 = 1;
/// A prompt after which every adapter's context is one split for some tokens, and one after which it is several.
const SHORT: usize = 5;
const LONG: usize = 260;
/// The embedding with the token's place.
const EMBED: u64 = 1;
/// The final norm, to bytes where the product takes them, and the product with the vocabulary.
const HEAD: u64 = 2;
/// Rounds of the greedy choice.
const ARGMAX: u64 = 2;

/// An adapter that may take integer dot products: CPU drivers are made to.
fn gpu(max_binding: Option<u64>) -> Arc<Gpu> {
    let mut options = GpuOptions::from_env().expect("environment");
    options.adapter = std::env::var("QWGPU_TEST_ADAPTER").ok().or(options.adapter);
    options.max_binding = max_binding;
    options.dot_on_cpu = true;
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

/// The same with matrices so large that a step takes integer dot products with them when they are quantised: gate and up, `down` too or
/// just not.
fn large(down: bool) -> Config {
    let mut config = small();
    config.n_layers = 1;
    config.windows.truncate(1);
    config.d_ff = quantize::ENOUGH / config.d_model - if down { 0 } else { 64 };
    config
}

/// The same with so many heads that the matrix of q, k and v is that large, and the output's just not.
fn many_heads() -> Config {
    let mut config = small();
    (config.d_model, config.n_layers) = (512, 1); // wider, or the scratch of attention would be too large for a binding
    config.windows.truncate(1);
    let heads = quantize::ENOUGH_QKV / (config.d_model * config.head_dim);
    config.n_kv_heads = heads / 12; // ten query heads to a kv head, and its k and v
    config.n_heads = heads - 2 * config.n_kv_heads;
    config
}

/// The same with experts in these layers. The shared one is cut into three slices, the last of which is not full.
fn with_experts(sparse: [bool; 3]) -> Config {
    let mut config = small();
    config.moe = Some(Moe {
        n_experts: 26,
        n_experts_per_token: 3,
        d_ff_expert: 96,
        d_ff_shared: 232,
        norm_topk: false,
        sparse: sparse.to_vec(),
    });
    config
}

fn session(gpu: &Arc<Gpu>, config: Config, dtype: DType, batch: usize) -> Session {
    let options = LoadOptions {
        dtype: Some(dtype),
        kv: Some(Elem::F32),
        ctx: Some(LONG + 80),
        batch,
    };
    Session::new(&Model::random(gpu, config, &options, 7).expect("a model")).expect("a session")
}

/// What each token of a greedy answer to a prompt of so many tokens asked of the device.
fn counts_of_tokens(config: Config, dtype: DType, n_prompt: usize, max_tokens: usize) -> Vec<Counts> {
    let gpu = gpu(None);
    let mut session = session(&gpu, config, dtype, 64);
    let options = GenerateOptions {
        sampler: SamplerConfig::greedy(),
        max_tokens,
        stop_ids: Vec::new(),
    };
    let prompt: Vec<u32> = (1..=n_prompt as u32).collect();
    let tokens = session.generate(&prompt, &options).expect("a generation");
    let mut counts = Vec::new();
    for token in tokens {
        token.expect("a token");
        counts.push(gpu.counts());
    }
    assert_eq!(counts.len(), max_tokens);
    counts
}

/// Checks what each step dispatches, given what its layers do in a short context.
fn check_dispatches(config: &Config, dtype: DType, layers: u64) {
    let merges = config.n_layers as u64 * MERGE;
    for (n_prompt, layers) in [(SHORT, layers), (LONG, layers + merges)] {
        check_dispatches_after(n_prompt, config, dtype, layers);
    }
}

/// The same after a prompt of so many tokens, given what its layers do there.
fn check_dispatches_after(n_prompt: usize, config: &Config, dtype: DType, layers: u64) {
    const N_TOKENS: usize = 5;
    let counts = counts_of_tokens(config.clone(), dtype, n_prompt, N_TOKENS);
    let expected = layers + EMBED + HEAD + ARGMAX;
    // the last call has no step to run ahead of it
    for (step, pair) in counts[..N_TOKENS - 1].windows(2).enumerate() {
        let dispatches = pair[1].dispatches - pair[0].dispatches;
        assert_eq!(
            dispatches, expected,
            "{dtype}, step {step} after {n_prompt} tokens: a fusion was lost"
        );
    }
}

#[test]
fn a_step_takes_five_dispatches_a_layer_and_a_merge_where_the_context_is_long() {
    check_dispatches(&small(), DType::F32, 3 * A_LAYER);
}

#[test]
fn small_quantised_matrices_are_read_in_as_many() {
    check_dispatches(&small(), DType::Q8, 3 * A_LAYER);
    check_dispatches(&small(), DType::Q4, 3 * A_LAYER);
}

#[test]
fn large_quantised_matrices_take_a_dispatch_more_each() {
    // gate and up with the norm in the dispatch that makes bytes, then down
    check_dispatches(&large(true), DType::Q8, A_LAYER + 2 * TO_BYTES);
    check_dispatches(&large(true), DType::Q4, A_LAYER + 2 * TO_BYTES);
    check_dispatches(&large(false), DType::Q4, A_LAYER + TO_BYTES);
    // q, k and v with the norm in the dispatch that makes bytes; so many heads fill some adapters without a split of the context
    for dtype in [DType::Q8, DType::Q4] {
        check_dispatches_after(SHORT, &many_heads(), dtype, A_LAYER + TO_BYTES);
    }
    // the head, which has its norm in that dispatch too, stays at two
    let mut config = small();
    config.vocab_size = quantize::ENOUGH / config.d_model;
    check_dispatches(&config, DType::Q8, 3 * A_LAYER);
}

#[test]
fn a_step_takes_one_more_with_experts() {
    check_dispatches(&with_experts([true; 3]), DType::F32, 3 * A_SPARSE_LAYER);
    check_dispatches(&with_experts([false, true, false]), DType::F32, 2 * A_LAYER + A_SPARSE_LAYER);
}

/// Checks an answer in a short context, and one that goes into another block of the cache in a long one. Between the two, when the
/// context is split for the first time, the scratch is bound once.
fn check_nothing_is_made(config: &Config, dtype: DType, answers: [usize; 2]) {
    for (n_prompt, max_tokens) in [SHORT, LONG].into_iter().zip(answers) {
        let counts = counts_of_tokens(config.clone(), dtype, n_prompt, max_tokens);
        let first = counts[0];
        for (step, now) in counts.iter().enumerate() {
            assert_eq!(
                (now.buffers, now.pipelines, now.bind_groups),
                (first.buffers, first.pipelines, first.bind_groups),
                "token {step} after {n_prompt} tokens: buffers, pipelines, bind groups"
            );
        }
    }
}

#[test]
fn nothing_is_allocated_or_compiled_after_the_first_token() {
    check_nothing_is_made(&small(), DType::F32, [20, 70]);
    check_nothing_is_made(&small(), DType::Q4, [20, 70]);
    check_nothing_is_made(&large(true), DType::Q4, [5, 5]);
    check_nothing_is_made(&many_heads(), DType::Q4, [5, 5]);
}

#[test]
fn nothing_is_allocated_or_compiled_after_the_first_token_with_experts() {
    check_nothing_is_made(&with_experts([true, false, true]), DType::F32, [20, 70]);
}

/// Logits after twenty tokens fed in batches of so many, and how many dispatches they took.
fn logits(config: &Config, max_binding: Option<u64>, batch: usize) -> (Vec<f32>, u64) {
    let gpu = gpu(max_binding);
    let mut session = session(&gpu, config.clone(), DType::F32, batch);
    let ids: Vec<u32> = (0..20).map(|i| (i * 389 + 11) % 1003).collect();
    let before = gpu.counts().dispatches;
    session.feed(&ids).expect("a forward pass");
    (session.logits().expect("logits"), gpu.counts().dispatches - before)
}

/// Compares two ways to the same logits.
fn check_same(whole: &[f32], split: &[f32], what: &str) {
    assert_eq!(whole.len(), split.len(), "{what}");
    let largest = split.iter().fold(0.0, |m: f32, x| m.max(x.abs()));
    let error = |(a, b): (&f32, &f32)| {
        let error = (a - b).abs();
        if error.is_nan() { f32::INFINITY } else { error }
    };
    let worst = whole.iter().zip(split).map(error).fold(0.0, f32::max);
    assert!(
        largest > 0.1 && worst <= 1e-4 * largest,
        "{what}: logits of whole and of split matrices are {worst} apart, the largest is {largest}"
    );
}

/// Bindings too small for the stacked matrices leave only the unfused kernels.
#[test]
fn split_matrices_take_the_unfused_kernels_and_give_the_same_logits() {
    let (fused, few) = logits(&small(), None, 1);
    let (unfused, many) = logits(&small(), Some(512 << 10), 1);
    assert!(few < many, "{few} and {many} dispatches");
    check_same(&fused, &unfused, "a step");
}

/// Room for all of [`small`]'s matrices with a small vocabulary, but for ten experts' gates and ups and for 21 downs: 29 of each, the
/// shared one's slices included, lie in three parts and in two.
const SPLIT_STACKS: Option<u64> = Some(2 << 20);

#[test]
fn split_stacks_of_experts_give_the_same_logits() {
    let mut config = with_experts([true; 3]);
    config.vocab_size = 1003;
    let dispatches = |batches: u64, a_layer: u64| batches * (3 * a_layer + EMBED) + HEAD;

    let (steps, few) = logits(&config, None, 1);
    let (split, many) = logits(&config, SPLIT_STACKS, 1);
    assert_eq!(few, dispatches(20, A_SPARSE_LAYER), "steps with whole stacks");
    assert_eq!(many, dispatches(20, A_SPARSE_LAYER + 2 + 1), "steps with split stacks");
    check_same(&steps, &split, "steps");

    let (prompt, few) = logits(&config, None, 64);
    let (split, many) = logits(&config, SPLIT_STACKS, 64);
    assert_eq!(many - few, 3 * (2 + 1), "a prompt with split stacks: parts beyond the first");
    check_same(&prompt, &split, "a prompt");
    check_same(&steps, &prompt, "steps and a prompt");
}

#[test]
fn dense_and_sparse_layers_in_turn_give_the_same_logits() {
    let config = with_experts([true, false, true]);
    let (steps, few) = logits(&config, None, 1);
    // every matrix but the routers in parts, so that a step takes the unfused kernels
    let (split_steps, many) = logits(&config, Some(512 << 10), 1);
    assert!(few < many, "{few} and {many} dispatches");
    check_same(&steps, &split_steps, "steps");
    let (prompt, few) = logits(&config, None, 64);
    let (split_prompt, many) = logits(&config, SPLIT_STACKS, 64);
    assert!(few < many, "{few} and {many} dispatches");
    check_same(&prompt, &split_prompt, "a prompt");
    check_same(&steps, &prompt, "steps and a prompt");
}
