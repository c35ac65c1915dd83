//! `qwgpu bench --check` in small: random models of the family's shapes in miniature agree with f64, operation by operation and
//! end to end, for a prompt that takes the prefill kernels and one that takes the decode kernels.

use std::{path::Path, sync::Arc};

use qwgpu_model::{
    LoadOptions, Model, Session,
    check::{self, Checked},
    config::{Config, Moe},
};
use qwgpu_runtime::{DType, Elem, Gpu, GpuOptions, Sources, kernels::quantize};

fn gpu_options() -> GpuOptions {
    let mut options = GpuOptions::from_env().expect("environment");
    options.adapter = std::env::var("QWGPU_TEST_ADAPTER").ok().or(options.adapter);
    options
}

fn gpu() -> Arc<Gpu> {
    Gpu::open(&gpu_options()).expect("an adapter; script/setup installs a software one")
}

/// 7B's proportions, small: an untied head, head_dim 128, seven query heads to a kv head.
fn small() -> Config {
    let mut config = Config::preset("7b").expect("a preset");
    (config.d_model, config.d_ff, config.n_layers) = (256, 704, 3);
    (config.n_heads, config.n_kv_heads, config.head_dim, config.vocab_size) = (7, 1, 128, 1003);
    config.windows = vec![None, Some(9), None];
    config
}

/// The same with experts of this width in the first and the last layer. The shared one's last slice is not full.
fn with_experts(d_ff_expert: usize, norm_topk: bool) -> Config {
    let mut config = small();
    config.moe = Some(Moe {
        n_experts: 10,
        n_experts_per_token: 3,
        d_ff_expert,
        d_ff_shared: 232,
        norm_topk,
        sparse: vec![true, false, true],
    });
    config
}

fn session(gpu: &Arc<Gpu>, config: Config, dtype: DType, kv: Elem) -> Session {
    let options = LoadOptions {
        dtype: Some(dtype),
        kv: Some(kv),
        ctx: Some(100),
        batch: 66,
    };
    Session::new(&Model::random(gpu, config, &options, 7).expect("a model")).expect("a session")
}

fn ids(n_tokens: u32) -> Vec<u32> {
    (0..n_tokens).map(|i| (i * 389 + 11) % 1003).collect()
}

/// Checks a model of this shape with prompts of several lengths, and gives the names of what was checked.
fn check_shape(config: Config, dtype: DType, kv: Elem, prompts: &[u32]) -> Vec<&'static str> {
    let mut session = session(&gpu(), config, dtype, kv);
    let mut names = Vec::new();
    for &n_tokens in prompts {
        let ids = ids(n_tokens);
        let mut checked = check::operations(&mut session, &ids, 16).expect("a trace");
        checked.extend(check::step_operations(&mut session, &ids, 16).expect("a trace of a step"));
        checked.push(check::end_to_end(&mut session, &ids).expect("a forward pass"));
        assert!(checked.len() >= 25, "only {} operations were checked", checked.len());
        for c in &checked {
            assert!(
                c.passed(),
                "{dtype} {kv:?}, {n_tokens} tokens: {} in layer {} is off by {:.2} tolerances",
                c.operation,
                c.layer,
                c.worst
            );
        }
        names.extend(checked.iter().map(|c| c.operation));
    }
    names
}

fn check_all(dtype: DType, kv: Elem, n_tokens: u32) {
    check_shape(small(), dtype, kv, &[n_tokens]);
}

#[test]
fn f32_agrees_with_f64() {
    check_all(DType::F32, Elem::F32, 40);
    check_all(DType::F32, Elem::F32, 3);
}

#[test]
fn bf16_agrees_with_f64() {
    check_all(DType::BF16, Elem::F32, 40);
    check_all(DType::BF16, Elem::F32, 66); // the step stands in the cache's second block
    check_all(DType::BF16, Elem::F32, 5);
}

#[test]
fn f16_weights_and_the_default_cache_agree_with_f64() {
    let kv = if gpu().caps().f16 { Elem::F16 } else { Elem::F32 };
    check_all(DType::F16, kv, 33);
    check_all(DType::F16, kv, 1);
}

#[test]
fn quantised_weights_agree_with_f64() {
    check_all(DType::Q8, Elem::F32, 40);
    check_all(DType::Q8, Elem::F32, 3);
    check_all(DType::Q4, Elem::F32, 33);
    check_all(DType::Q4, Elem::F32, 5);
}

/// A step with integer dot products wherever they may be: CPU drivers are made to take them.
fn step_with_dot(config: Config, dtype: DType, sources: Sources) -> Vec<Checked> {
    let options = GpuOptions {
        dot_on_cpu: true,
        sources,
        ..gpu_options()
    };
    let gpu = Gpu::open(&options).expect("an adapter");
    let mut session = session(&gpu, config, dtype, Elem::F32);
    check::step_operations(&mut session, &ids(3), 16).expect("a trace of a step")
}

/// Gate, up, down and head so large that products with them take integer dot products when they are quantised.
fn large() -> Config {
    let mut config = small();
    config.n_layers = 1;
    config.windows.truncate(1);
    config.d_ff = quantize::ENOUGH / config.d_model;
    config.vocab_size = config.d_ff; // the head as well
    config
}

/// q, k and v so large.
fn many_heads() -> Config {
    let mut config = small();
    (config.d_model, config.n_layers) = (512, 1); // wider, or the scratch of attention would be too large for a binding
    config.windows.truncate(1);
    let heads = quantize::ENOUGH_QKV / (config.d_model * config.head_dim);
    config.n_kv_heads = heads / 16;
    config.n_heads = heads - 2 * config.n_kv_heads;
    config
}

#[test]
fn a_step_with_integer_dot_products_agrees_with_f64() {
    for (config, dtype) in [large(), many_heads()]
        .into_iter()
        .flat_map(|c| [(c.clone(), DType::Q8), (c, DType::Q4)])
    {
        for c in step_with_dot(config, dtype, Sources::embedded()) {
            assert!(
                c.passed(),
                "{dtype}: {} in layer {} is off by {:.2} tolerances",
                c.operation,
                c.layer,
                c.worst
            );
        }
    }
}

#[test]
fn a_fault_among_integer_dot_products_is_found_where_it_is() {
    let dir = faulty_shaders("gate_up_dot.wgsl", "min(-gate", "min(gate");
    let checked = step_with_dot(large(), DType::Q4, Sources::from_dir(dir.path()));
    let failed: Vec<&str> = checked.iter().filter(|c| !c.passed()).map(|c| c.operation).collect();
    assert_eq!(failed, ["swiglu"]);
    let dir = faulty_shaders("qkv_rope_dot.wgsl", "vec2<f32>(sum", "vec2<f32>(1.5 * sum");
    let checked = step_with_dot(many_heads(), DType::Q4, Sources::from_dir(dir.path()));
    let failed: Vec<&str> = checked.iter().filter(|c| !c.passed()).map(|c| c.operation).collect();
    assert_eq!(failed, ["q_rope", "k_cache", "v_cache"]);
}

/// Checks a mixture of experts with a prompt and with a few tokens.
fn check_experts(d_ff_expert: usize, norm_topk: bool, dtype: DType) {
    let names = check_shape(with_experts(d_ff_expert, norm_topk), dtype, Elem::F32, &[40, 3]);
    let of_experts = [
        "router_logits",
        "topk_ids",
        "topk_weights",
        "pairs",
        "offsets",
        "experts_gate_up",
        "experts_swiglu",
        "experts_out",
        "mixture",
    ];
    for operation in of_experts {
        assert!(names.contains(&operation), "{operation} was not checked: {names:?}");
    }
}

#[test]
fn experts_agree_with_f64() {
    check_experts(96, false, DType::F32);
    check_experts(96, true, DType::BF16);
}

#[test]
fn quantised_experts_agree_with_f64() {
    check_experts(128, false, DType::Q8);
    check_experts(128, true, DType::Q4);
}

/// Where a fault shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// A prompt, whose logits then are wrong too.
    Prompt,
    /// A step of one token.
    Step,
}
use Phase::{Prompt, Step};

/// A copy of the shaders with one text of one of them replaced by another.
fn faulty_shaders(file: &str, from: &str, to: &str) -> tempfile::TempDir {
    let shaders = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shaders");
    let dir = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(dir.path().join("shared")).expect("a folder");
    for folder in [".", "shared"] {
        for entry in std::fs::read_dir(shaders.join(folder)).expect("the shaders").flatten() {
            if entry.path().extension().is_some_and(|ending| ending == "wgsl") {
                std::fs::copy(entry.path(), dir.path().join(folder).join(entry.file_name())).expect("a copy");
            }
        }
    }
    let path = dir.path().join(file);
    let text = std::fs::read_to_string(&path).expect("the shader");
    assert!(text.contains(from), "{file} no longer holds {from:?}");
    std::fs::write(&path, text.replace(from, to)).expect("a faulty shader");
    dir
}

/// A text of a shader, the one that a fault has in its place, when it shows, and in which operation.
type Fault = (&'static str, &'static str, &'static str, Phase, &'static str);

/// Plants a fault, and checks that the operation is among those that fail.
fn check_fault(config: Config, (file, from, to, phase, operation): Fault) {
    let dir = faulty_shaders(file, from, to);
    let gpu = Gpu::open(&GpuOptions {
        sources: Sources::from_dir(dir.path()),
        ..gpu_options()
    })
    .expect("an adapter");
    let mut session = session(&gpu, config, DType::F32, Elem::F32);
    let ids = ids(40);
    let checked: Vec<Checked> = match phase {
        Prompt => check::operations(&mut session, &ids, 16).expect("a trace"),
        Step => check::step_operations(&mut session, &ids, 16).expect("a trace of a step"),
    };
    let failed: Vec<&str> = checked.iter().filter(|c| !c.passed()).map(|c| c.operation).collect();
    assert!(
        failed.contains(&operation),
        "{file}, {to:?}: {operation} should fail, but {failed:?} did"
    );
    if phase == Prompt {
        let whole = check::end_to_end(&mut session, &ids).expect("a forward pass");
        assert!(!whole.passed(), "{file}, {to:?}: the fault does not show end to end");
    }
}

/// A check that cannot fail is worth nothing: each planted fault is found, and in the right operation.
#[test]
fn planted_faults_are_found_where_they_are() {
    let faults = [
        ("rope.wgsl", "first * c - second * s", "first * c + second * s", Prompt, "q_rope"),
        (
            "rms_norm.wgsl",
            "params.inv_d + params.eps",
            "params.inv_d * 1.001 + params.eps",
            Prompt,
            "input_norm",
        ),
        ("attention_prefill.wgsl", "key <= pos0", "key < pos0 + 2u", Prompt, "attn_context"),
        ("matmul.wgsl", "group0 += TILE_K / 8u", "group0 += TILE_K / 4u", Prompt, "gate_up"),
        ("silu_mul.wgsl", "1.0 + exp(", "1.002 + exp(", Prompt, "swiglu"),
        ("shared/qkv_rope.wgsl", "-y.y, d < HALF", "-y.y, d >= HALF", Step, "q_rope"),
        ("shared/qkv_rope.wgsl", "vectors[b / 4u][b % 4u]", "0.0", Step, "v_cache"),
        ("norm_gate_up.wgsl", "1.0 + exp(", "1.002 + exp(", Step, "swiglu"),
    ];
    for fault in faults {
        check_fault(small(), fault);
    }
}

#[test]
fn planted_faults_of_experts_are_found_where_they_are() {
    let faults = [
        // weights that are no softmax, the softmax over the chosen alone, another expert, another gate
        ("shared/choice.wgsl", "/ sum_of_weights(t)", "", Prompt, "topk_weights"),
        ("shared/choice.wgsl", "normalise == 0u", "normalise == 2u", Prompt, "topk_weights"),
        ("shared/choice.wgsl", "other_key > key", "other_key < key", Prompt, "topk_ids"),
        ("shared/choice.wgsl", "min(-logit_of(", "min(logit_of(", Step, "topk_weights"),
        // the last token's last choice dropped, and every list begun at the front
        (
            "group_experts.wgsl",
            "if chosen[i] == expert {",
            "if chosen[i] == expert && i + 1u < n {",
            Prompt,
            "pairs",
        ),
        (
            "group_experts.wgsl",
            "offsets[expert] = offset",
            "offsets[expert] = 0u",
            Prompt,
            "offsets",
        ),
        // rows of other tokens, results to other tokens, and another expert's matrix
        (
            "shared/rows_grouped.wgsl",
            "pair / params.n_slots",
            "pair % params.n_slots",
            Prompt,
            "experts_gate_up",
        ),
        (
            "shared/rows_grouped.wgsl",
            "params.gather == 0u",
            "params.gather == 2u",
            Prompt,
            "experts_out",
        ),
        ("shared/rows_grouped.wgsl", "z * params.n_rows", "0u", Prompt, "experts_out"),
        ("combine_experts.wgsl", "weight * y", "y", Prompt, "mixture"),
        ("combine_experts.wgsl", "s < params.n_slots", "s < params.k", Prompt, "mixture"),
        ("experts_gate_up.wgsl", "min(-y.x", "min(y.x", Step, "experts_swiglu"),
        ("experts_down.wgsl", "sh_factors[slot] * hidden", "hidden", Step, "mixture"),
        // the shared expert's slices in place of each other
        ("shared/slots.wgsl", "slot - params.k;", "0u;", Step, "experts_swiglu"),
    ];
    let mut config = with_experts(96, false);
    config.n_layers = 1; // the first, which is sparse
    config.windows.truncate(1);
    for fault in faults {
        check_fault(config.clone(), fault);
    }
}
