//! The published configurations read as they should, in every spelling; what is refused is tested in `tests/bad_checkpoints.rs`.

use serde_json::{Value, json};

use super::*;

/// The `config.json` of a published base model (Qwen2 report, arXiv 2407.10671, and the copies in public repositories).
fn published(name: &str) -> Value {
    let (hidden, layers, heads, kv_heads, inner, vocab, tied) = match name {
        "0.5b" => (896, 24, 14, 2, 4864, 151_936, true),
        "1.5b" => (1536, 28, 12, 2, 8960, 151_936, true),
        "7b" => (3584, 28, 28, 4, 18_944, 152_064, false),
        "72b" => (8192, 80, 64, 8, 29_568, 152_064, false),
        "57b-a14b" => (3584, 28, 28, 4, 18_944, 151_936, false),
        other => panic!("no such model: {other}"),
    };
    let mut config = json!({
        "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151643,
        "hidden_act": "silu", "hidden_size": hidden, "initializer_range": 0.02, "intermediate_size": inner,
        "max_position_embeddings": 131072, "max_window_layers": layers, "model_type": "qwen2", "num_attention_heads": heads,
        "num_hidden_layers": layers, "num_key_value_heads": kv_heads, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
        "sliding_window": 131072, "tie_word_embeddings": tied, "torch_dtype": "bfloat16", "transformers_version": "4.40.1",
        "use_cache": true, "use_sliding_window": false, "vocab_size": vocab
    });
    if name == "57b-a14b" {
        let moe = json!({
            "architectures": ["Qwen2MoeForCausalLM"], "model_type": "qwen2_moe", "decoder_sparse_step": 1,
            "moe_intermediate_size": 2560, "norm_topk_prob": false, "num_experts": 64, "num_experts_per_tok": 8,
            "output_router_logits": false, "router_aux_loss_coef": 0.001, "shared_expert_intermediate_size": 20480
        });
        config = with(config, moe);
    }
    config
}

/// `base` with the fields of `changes` set; null takes a field away.
fn with(mut base: Value, changes: Value) -> Value {
    for (key, value) in changes.as_object().unwrap() {
        base[key] = value.clone();
    }
    base
}

fn parse(config: &Value) -> Config {
    Config::from_json(&config.to_string()).unwrap()
}

/// The 0.5B configuration with `changes`.
fn small(changes: Value) -> Config {
    parse(&with(published("0.5b"), changes))
}

fn message(changes: Value) -> String {
    Config::from_json(&with(published("0.5b"), changes).to_string())
        .unwrap_err()
        .to_string()
}

#[test]
fn published_models_are_the_presets() {
    let parameters = [494_032_768, 1_543_714_304, 7_615_616_512, 57_408_658_944, 72_706_203_648];
    let groups = [7, 6, 7, 7, 8];
    for ((name, parameters), group) in Config::PRESETS.into_iter().zip(parameters).zip(groups) {
        let config = parse(&published(name));
        assert_eq!(config, Config::preset(name).unwrap(), "{name}");
        assert_eq!(config.n_parameters(), parameters, "{name}");
        assert_eq!(config.group_size(), group, "{name}");
        assert_eq!(config.q_width(), config.d_model, "{name}");
        assert_eq!(config.max_ctx(), 131_072);
    }
    assert_eq!(Config::preset("3b"), None);
}

#[test]
fn norms_and_special_tokens_come_from_the_file() {
    assert_eq!(parse(&with(published("72b"), json!({"rms_norm_eps": 1e-5}))).rms_norm_eps, 1e-5);
    assert_eq!(small(json!({"eos_token_id": [151645, 151643]})).eos_token_ids, [151_645, 151_643]);
    assert_eq!(small(json!({"eos_token_id": null})).eos_token_ids, Vec::<u32>::new());
    assert_eq!(small(json!({"architectures": null})).architecture, "");
}

#[test]
fn head_dim_may_differ_from_the_quotient() {
    let config = small(json!({"hidden_size": 128, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64}));
    assert_eq!(
        (config.d_model, config.head_dim, config.q_width(), config.kv_width()),
        (128, 64, 512, 128)
    );
    // embedding, final norm, and per layer: two norms, q k v with bias, o, three feed-forward matrices
    let layer = 2 * 128 + 128 * (512 + 256) + (512 + 256) + 512 * 128 + 3 * 128 * 4864;
    assert_eq!(config.n_parameters(), 151_936 * 128 + 128 + 24 * layer);
}

#[test]
fn the_saved_type_has_two_names() {
    assert_eq!(small(json!({"torch_dtype": "float32"})).dtype, Some(DType::F32));
    assert_eq!(small(json!({"torch_dtype": null, "dtype": "float16"})).dtype, Some(DType::F16));
    assert_eq!(small(json!({"torch_dtype": null})).dtype, None);
    assert!(message(json!({"torch_dtype": "float64"})).contains("`torch_dtype` is \"float64\""));
}

#[test]
fn windows_follow_either_spelling() {
    let layers = json!({"num_hidden_layers": 4, "sliding_window": 16});
    let config = |changes| parse(&with(with(published("0.5b"), layers.clone()), changes));
    assert_eq!(config(json!({})).windows, [None; 4]);
    let windowed = config(json!({"use_sliding_window": true, "max_window_layers": 2}));
    assert_eq!(windowed.windows, [None, None, Some(16), Some(16)]);
    assert_eq!(
        config(json!({"use_sliding_window": true, "max_window_layers": 28})).windows,
        [None; 4]
    );
    let types = json!({"use_sliding_window": true, "max_window_layers": 0,
        "layer_types": ["sliding_attention", "full_attention", "full_attention", "sliding_attention"]});
    assert_eq!(config(types).windows, [Some(16), None, None, Some(16)]);
    let full = json!({"sliding_window": null, "layer_types": ["full_attention", "full_attention", "full_attention", "full_attention"]});
    assert_eq!(config(full).windows, [None; 4]);
}

#[test]
fn rope_follows_either_spelling() {
    let plain = Rope { theta: 1e6, yarn: None };
    assert_eq!(small(json!({"rope_scaling": null})).rope, plain);
    assert_eq!(small(json!({"rope_scaling": {"type": "default"}})).rope, plain);
    assert_eq!(small(json!({"rope_theta": 1000000})).rope, plain, "whole numbers are numbers");
    assert_eq!(small(json!({"rope_theta": null})).rope.theta, 10_000.0);
    let new = json!({"rope_theta": null, "rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"}});
    assert_eq!(small(new).rope, Rope { theta: 5e5, yarn: None });
    let old_yarn = json!({"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}});
    let new_yarn = json!({"rope_theta": null, "rope_parameters":
        {"rope_theta": 1e6, "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}});
    let yarn = small(old_yarn).rope.yarn.unwrap();
    assert_eq!(
        small(new_yarn).rope,
        Rope {
            theta: 1e6,
            yarn: Some(yarn)
        }
    );
    assert_eq!(
        (yarn.factor, yarn.original_max_position_embeddings, yarn.truncate),
        (4.0, 32_768, true)
    );
    assert_eq!((yarn.beta_fast, yarn.beta_slow), (32.0, 1.0));
    assert!((yarn.attention_factor - 1.138_629_436).abs() < 1e-9);
}

#[test]
fn yarn_takes_its_factor_as_given() {
    let yarn = |max: usize, fields: Value| {
        let base = json!({"rope_type": "yarn", "factor": 4.0});
        small(json!({"max_position_embeddings": max, "rope_scaling": with(base, fields)}))
    };
    assert_eq!(
        yarn(32_768, json!({})).max_ctx(),
        131_072,
        "the original context defaults to the maximum"
    );
    assert_eq!(yarn(131_072, json!({"original_max_position_embeddings": 32768})).max_ctx(), 131_072);
    assert_eq!(yarn(32_768, json!({"factor": 2.5})).max_ctx(), 81_920);
    let factor = |fields| yarn(32_768, fields).rope.yarn.unwrap().attention_factor;
    assert_eq!(factor(json!({"attention_factor": 1.5})), 1.5);
    assert_eq!(factor(json!({"factor": 1})), 1.0);
    assert_eq!(factor(json!({"mscale": 1.0, "mscale_all_dim": 1.0})), 1.0);
    assert!((factor(json!({"mscale": 2.0, "mscale_all_dim": 1.0})) - 1.277_258_872 / 1.138_629_436).abs() < 1e-9);
    assert!(!yarn(32_768, json!({"truncate": false})).rope.yarn.unwrap().truncate);
}

#[test]
fn experts_are_read() {
    let read = |changes| Config::from_json(&with(published("57b-a14b"), changes).to_string());
    let config = read(json!({})).unwrap();
    assert_eq!(config.model_type, ModelType::Qwen2Moe);
    assert_eq!(config.n_parameters(), 57_408_658_944);
    let moe = config.moe.unwrap();
    assert_eq!(
        (moe.n_experts, moe.n_experts_per_token, moe.d_ff_expert, moe.d_ff_shared),
        (64, 8, 2560, 20_480)
    );
    assert!(!moe.norm_topk && moe.sparse == [true; 28]);

    let mixed = read(json!({"num_hidden_layers": 6, "decoder_sparse_step": 2, "mlp_only_layers": [3]})).unwrap();
    assert_eq!(mixed.moe.unwrap().sparse, [false, true, false, false, false, true]);
    // The reference checkpoint with dense and sparse layers; the count is the sum over its tensors.
    let tiny = read(
        json!({"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 6, "num_attention_heads": 2,
        "num_key_value_heads": 2, "vocab_size": 512, "decoder_sparse_step": 2, "mlp_only_layers": [3], "num_experts": 10,
        "num_experts_per_tok": 3, "moe_intermediate_size": 64, "shared_expert_intermediate_size": 128}),
    );
    assert_eq!(tiny.unwrap().n_parameters(), 1_514_112);

    let wrong = [
        ("num_experts", json!(null)),
        ("num_experts", json!(0)),
        ("num_experts", json!(257)),
        ("num_experts_per_tok", json!(65)),
        ("moe_intermediate_size", json!(2561)),
        ("shared_expert_intermediate_size", json!(-8)),
        ("decoder_sparse_step", json!(0)),
        ("mlp_only_layers", json!([28])),
        ("mlp_only_layers", json!("all")),
        ("norm_topk_prob", json!(1)),
    ];
    for (field, value) in wrong {
        let error = read(json!({field: value})).unwrap_err().to_string();
        assert!(error.contains(&format!("`{field}`")), "{field}: {error}");
    }
    // the A in its name: all but 56 of 64 experts in each of 28 layers
    let config = parse(&published("57b-a14b"));
    assert_eq!(config.n_active_parameters(), config.n_parameters() - 28 * 56 * 3 * 3584 * 2560);
    assert_eq!(config.n_parameters_per_token(), config.n_active_parameters() - 151_936 * 3584);
    assert!(!config.has_dense_layers());
    let moe = config.experts(27).unwrap();
    assert_eq!((moe.n_shared(), moe.n_stacked(), moe.n_slots()), (8, 72, 16));
    let uneven = Moe {
        d_ff_expert: 160,
        d_ff_shared: 384,
        ..moe.clone()
    };
    assert_eq!(uneven.n_shared(), 3);
}

#[test]
fn generation_defaults_are_optional() {
    assert_eq!(GenerationConfig::from_json("{}").unwrap(), GenerationConfig::default());
    let text = r#"{"bos_token_id": 151643, "do_sample": true, "eos_token_id": [151645, 151643], "pad_token_id": 151643,
        "repetition_penalty": 1.05, "temperature": 0.7, "top_k": 20, "top_p": 0.8, "min_p": null, "max_new_tokens": 400}"#;
    let expected = GenerationConfig {
        eos_token_ids: vec![151_645, 151_643],
        do_sample: Some(true),
        temperature: Some(0.7),
        top_k: Some(20),
        top_p: Some(0.8),
        min_p: None,
        repetition_penalty: Some(1.05),
        max_new_tokens: Some(400),
    };
    assert_eq!(GenerationConfig::from_json(text).unwrap(), expected);
}
