//! `qwgpu bench --check` in small: random models of the family's shapes in miniature agree with f64, operation by operation and
//! end to end, for a prompt that takes the prefill kernels and one that takes the decode kernels.

use std::{path::Path, sync::Arc};

use qwgpu_model::{LoadOptions, Model, Session, check, config::Config};
use qwgpu_runtime::{DType, Elem, Gpu, GpuOptions, Sources};

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

fn check_all(dtype: DType, kv: Elem, n_tokens: u32) {
    let options = LoadOptions {
        dtype: Some(dtype),
        kv: Some(kv),
        ctx: Some(100),
        batch: 66,
    };
    let model = Model::random(&gpu(), small(), &options, 7).expect("a model");
    let mut session = Session::new(&model).expect("a session");
    let ids: Vec<u32> = (0..n_tokens).map(|i| (i * 389 + 11) % 1003).collect();
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

/// The operations that fail with one text of one shader replaced by another.
fn failures_with(file: &str, from: &str, to: &str) -> Vec<&'static str> {
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

    let gpu = Gpu::open(&GpuOptions {
        sources: Sources::from_dir(dir.path()),
        ..gpu_options()
    })
    .expect("an adapter");
    let options = LoadOptions {
        dtype: Some(DType::F32),
        kv: Some(Elem::F32),
        ctx: Some(100),
        batch: 64,
    };
    let model = Model::random(&gpu, small(), &options, 7).expect("a model");
    let mut session = Session::new(&model).expect("a session");
    let ids: Vec<u32> = (0..40).map(|i| (i * 389 + 11) % 1003).collect();
    let checked = check::operations(&mut session, &ids, 16).expect("a trace");
    let step = check::step_operations(&mut session, &ids, 16).expect("a trace of a step");
    let whole = check::end_to_end(&mut session, &ids).expect("a forward pass");
    let in_step = file.starts_with("norm_");
    assert!(in_step || !whole.passed(), "{file}: the fault does not show end to end");
    let checked = if in_step { step } else { checked };
    checked.iter().filter(|c| !c.passed()).map(|c| c.operation).collect()
}

/// A check that cannot fail is worth nothing: each planted fault is found, and in the right operation.
#[test]
fn planted_faults_are_found_where_they_are() {
    let faults = [
        ("rope.wgsl", "first * c - second * s", "first * c + second * s", "q_rope"),
        (
            "rms_norm.wgsl",
            "params.inv_d + params.eps",
            "params.inv_d * 1.001 + params.eps",
            "input_norm",
        ),
        ("attention_prefill.wgsl", "key <= pos0", "key < pos0 + 2u", "attn_context"),
        ("matmul.wgsl", "group0 += TILE_K / 8u", "group0 += TILE_K / 4u", "gate_up"),
        ("silu_mul.wgsl", "1.0 + exp(", "1.002 + exp(", "swiglu"),
        ("norm_qkv_rope.wgsl", "-y.y, d < HALF", "-y.y, d >= HALF", "q_rope"),
        ("norm_qkv_rope.wgsl", "vectors[b / 4u][b % 4u]", "0.0", "v_cache"),
        ("norm_gate_up.wgsl", "1.0 + exp(", "1.002 + exp(", "swiglu"),
    ];
    for (file, from, to, operation) in faults {
        let failed = failures_with(file, from, to);
        assert!(failed.contains(&operation), "{file}: {operation} should fail, but {failed:?} did");
    }
}
