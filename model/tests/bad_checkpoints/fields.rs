//! Fields of `config.json` and `generation_config.json` that are wrong, absurd or not supported.

use qwgpu_model::Error;
use qwgpu_model::config::{Config, GenerationConfig};
use serde_json::{Value, json};

use super::{config, moe_config};

fn config_with(field: &str, value: &Value) -> String {
    let mut config = config();
    config[field] = value.clone();
    config.to_string()
}

#[test]
fn wrong_configurations_name_the_field_and_its_value() {
    let yarn = |field: &str, value: Value| {
        let mut scaling = json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024});
        scaling[field] = value;
        scaling
    };
    let layers = |kinds: &[&str]| json!(kinds);
    // (field, value, what the message has to contain)
    let cases = [
        ("model_type", json!("llama"), "\"llama\""),
        ("model_type", json!(null), "missing"),
        ("model_type", json!(2), "must be a string"),
        ("model_type", json!("qwen2_moe"), "`num_experts` is missing"),
        ("hidden_size", json!(null), "missing"),
        ("hidden_size", json!("128"), "\"128\""),
        ("hidden_size", json!(128.5), "128.5"),
        ("hidden_size", json!(-128), "-128"),
        ("hidden_size", json!(0), "whole number"),
        ("hidden_size", json!(1e18), "whole number"),
        ("hidden_size", json!(1_000_000_000_000_000_000u64), "whole number"),
        ("hidden_size", json!(132), "multiple of 8"),
        ("intermediate_size", json!(u64::MAX), "whole number"),
        ("intermediate_size", json!(257), "multiple of 8"),
        ("num_hidden_layers", json!(0), "from 1 to 1000"),
        ("num_hidden_layers", json!(1001), "from 1 to 1000"),
        ("num_attention_heads", json!(3), "must divide hidden_size"),
        ("num_attention_heads", json!(0), "whole number"),
        ("num_key_value_heads", json!(3), "must divide num_attention_heads"),
        ("head_dim", json!(96), "not 96"),
        ("head_dim", json!(0), "whole number"),
        ("vocab_size", json!(1 << 21), "whole number"),
        ("vocab_size", json!([512]), "[512]"),
        ("rms_norm_eps", json!("NaN"), "must be a number"),
        ("rms_norm_eps", json!(-1e-6), "-1e-6"),
        ("rms_norm_eps", json!(0), "must be a number"),
        ("rms_norm_eps", json!(null), "missing"),
        ("rope_theta", json!(0), "must be a number"),
        ("rope_theta", json!(-10000.0), "-10000.0"),
        ("rope_theta", json!(1e300), "must be a number"),
        ("max_position_embeddings", json!(0), "whole number"),
        ("max_position_embeddings", json!(1u64 << 40), "whole number"),
        ("tie_word_embeddings", json!("true"), "true or false"),
        ("torch_dtype", json!("int8"), "bfloat16"),
        ("dtype", json!(16), "must be a string"),
        ("hidden_act", json!("gelu"), "\"gelu\""),
        ("is_causal", json!(false), "only true is supported"),
        ("use_mrope", json!(true), "only false is supported"),
        ("eos_token_id", json!(-1), "token id"),
        ("eos_token_id", json!([1, "2"]), "token id"),
        ("architectures", json!("Qwen2ForCausalLM"), "must be a list"),
        ("quantization_config", json!({"quant_method": "gptq"}), "quantised"),
        ("dual_chunk_attention_config", json!({"chunk_size": 8192}), "dual chunk attention"),
        ("partial_rotary_factor", json!(0.5), "as a whole"),
        ("rope_scaling", json!("yarn"), "must be an object"),
        (
            "rope_scaling",
            json!({"type": "linear", "factor": 2.0}),
            "`rope_scaling.type` is \"linear\"",
        ),
        ("rope_scaling", json!({"factor": 2.0}), "`rope_scaling.rope_type` is missing"),
        ("rope_scaling", yarn("factor", json!(null)), "`rope_scaling.factor` is missing"),
        ("rope_scaling", yarn("factor", json!(0.5)), "`rope_scaling.factor` is 0.5"),
        ("rope_scaling", yarn("factor", json!(1e9)), "`rope_scaling.factor`"),
        (
            "rope_scaling",
            yarn("original_max_position_embeddings", json!(1 << 23)),
            "exceeds 16777216 positions",
        ),
        (
            "rope_scaling",
            yarn("original_max_position_embeddings", json!(-1)),
            "`rope_scaling.original_max_position_embeddings`",
        ),
        ("rope_scaling", yarn("beta_fast", json!(0.5)), "must be above beta_slow"),
        ("rope_scaling", yarn("beta_slow", json!(0)), "`rope_scaling.beta_slow`"),
        (
            "rope_scaling",
            yarn("attention_factor", json!("big")),
            "`rope_scaling.attention_factor`",
        ),
        ("rope_scaling", yarn("truncate", json!(1)), "`rope_scaling.truncate`"),
        (
            "rope_parameters",
            json!({"rope_type": "llama3"}),
            "`rope_parameters.rope_type` is \"llama3\"",
        ),
        (
            "rope_parameters",
            json!({"rope_type": "default", "rope_theta": 0}),
            "`rope_parameters.rope_theta`",
        ),
        (
            "rope_parameters",
            json!({"full_attention": {"rope_type": "default"}}),
            "`rope_parameters.rope_type` is missing",
        ),
        ("use_sliding_window", json!("no"), "true or false"),
        ("sliding_window", json!(0), "whole number"),
        ("layer_types", layers(&["full_attention"]), "each of the 2 layers, not 1"),
        (
            "layer_types",
            layers(&["full_attention", "linear_attention"]),
            "\"linear_attention\" is no layer type",
        ),
        ("layer_types", json!([1, 2]), "1 is no layer type"),
        (
            "layer_types",
            layers(&["sliding_attention", "full_attention"]),
            "`use_sliding_window` is false",
        ),
    ];
    for (field, value, expected) in cases {
        let error = Config::from_json(&config_with(field, &value)).expect_err(&format!("{field}: {value}"));
        let message = error.to_string();
        assert!(
            matches!(error, Error::Config { .. }) && message.starts_with("config.json: `"),
            "{field}: {message}"
        );
        assert!(message.contains(expected), "{field} {value}: {message}");
        let blamed_elsewhere = expected.starts_with('`') && !expected.contains(field);
        assert!(blamed_elsewhere || message.contains(field), "{field} {value}: {message}");
    }
}

#[test]
fn fields_that_depend_on_others_are_named() {
    let with = |changes: Value| {
        let mut config = config();
        for (field, value) in changes.as_object().unwrap() {
            config[field] = value.clone();
        }
        Config::from_json(&config.to_string()).unwrap_err().to_string()
    };
    let group = with(json!({"num_attention_heads": 34, "head_dim": 64}));
    assert!(
        group.contains("`num_key_value_heads` is 1") && group.contains("34 query heads"),
        "{group}"
    );
    let window = with(json!({"use_sliding_window": true, "sliding_window": null}));
    assert!(window.contains("`sliding_window` is missing"), "{window}");
    let first = with(json!({"use_sliding_window": true, "max_window_layers": null}));
    assert!(first.contains("`max_window_layers` is missing"), "{first}");
    let both = with(json!({"rope_scaling": {"type": "default"}, "rope_parameters": {"rope_type": "yarn", "factor": 2}}));
    assert!(both.contains("`rope_parameters`") && both.contains("rope_scaling"), "{both}");
    let long = with(json!({"hidden_size": "x".repeat(100_000)}));
    assert!(long.len() < 300, "a long value is cut in the message: {} bytes", long.len());
}

#[test]
fn wrong_fields_of_experts_name_the_field_and_its_value() {
    let sound = moe_config();
    Config::from_json(&sound.to_string()).expect("a sound mixture of experts");
    // (field, value, what the message has to contain)
    let cases = [
        ("num_experts", json!(null), "missing"),
        ("num_experts", json!(0), "whole number from 1 to 256"),
        ("num_experts", json!(257), "257"),
        ("num_experts_per_tok", json!(null), "missing"),
        ("num_experts_per_tok", json!(0), "whole number from 1 to 8"),
        ("num_experts_per_tok", json!(9), "whole number from 1 to 8"),
        ("moe_intermediate_size", json!(null), "missing"),
        ("moe_intermediate_size", json!(0), "whole number"),
        ("moe_intermediate_size", json!(60), "multiple of 8"),
        ("moe_intermediate_size", json!(1u64 << 40), "whole number"),
        ("shared_expert_intermediate_size", json!(null), "missing"),
        ("shared_expert_intermediate_size", json!(0), "whole number"),
        ("shared_expert_intermediate_size", json!(100), "multiple of 8"),
        (
            "shared_expert_intermediate_size",
            json!(64 * 64 + 8),
            "64 times moe_intermediate_size, which is 64",
        ),
        ("norm_topk_prob", json!(1), "true or false"),
        ("decoder_sparse_step", json!(0), "whole number"),
        ("decoder_sparse_step", json!(-1), "-1"),
        ("mlp_only_layers", json!(0), "must be a list"),
        ("mlp_only_layers", json!([2]), "layers from 0 to 1"),
        ("mlp_only_layers", json!([-1]), "layers from 0 to 1"),
        ("mlp_only_layers", json!(["0"]), "layers from 0 to 1"),
    ];
    for (field, value, expected) in cases {
        let mut config = sound.clone();
        config[field] = value.clone();
        let error = Config::from_json(&config.to_string()).expect_err(&format!("{field}: {value}"));
        let message = error.to_string();
        assert!(
            matches!(error, Error::Config { .. }) && message.starts_with(&format!("config.json: `{field}`")) && message.contains(expected),
            "{field} {value}: {message}"
        );
    }
    // a dense model may say what it likes about experts
    let mut dense = sound;
    dense["model_type"] = json!("qwen2");
    dense["num_experts"] = json!("none");
    assert_eq!(Config::from_json(&dense.to_string()).expect("a sound dense model").moe, None);
}

#[test]
fn texts_that_are_no_json_object_name_the_file() {
    let absurd = [
        "",
        "{",
        "[]",
        "12",
        "null",
        "{\"hidden_size\": NaN}",
        "{\"rms_norm_eps\": Infinity}",
        "{\"rms_norm_eps\": 1e999}",
    ];
    for text in absurd
        .map(String::from)
        .into_iter()
        .chain(["[".repeat(100_000), "{\"a\":".repeat(100_000)])
    {
        let shown = &text[..text.len().min(20)];
        let error = Config::from_json(&text).unwrap_err();
        assert!(
            matches!(&error, Error::Json { file, .. } if file == "config.json"),
            "{shown}: {error:?}"
        );
        let error = GenerationConfig::from_json(&text).unwrap_err();
        assert!(
            matches!(&error, Error::Json { file, .. } if file == "generation_config.json"),
            "{shown}: {error:?}"
        );
    }
}

#[test]
fn wrong_generation_defaults_name_the_field() {
    let cases = [
        ("temperature", json!("hot")),
        ("temperature", json!(-1)),
        ("top_p", json!(1.5)),
        ("top_k", json!(-1)),
        ("top_k", json!(2.5)),
        ("min_p", json!(true)),
        ("repetition_penalty", json!(0)),
        ("do_sample", json!(1)),
        ("eos_token_id", json!("</s>")),
        ("eos_token_id", json!([1u64 << 32])),
        ("max_new_tokens", json!(1e30)),
    ];
    for (field, value) in cases {
        let message = GenerationConfig::from_json(&json!({field: value}).to_string())
            .unwrap_err()
            .to_string();
        assert!(
            message.starts_with("generation_config.json") && message.contains(&format!("`{field}`")),
            "{field}: {message}"
        );
    }
}
