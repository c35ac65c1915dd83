//! Random bytes, digits and values in otherwise sound files.

use proptest::prelude::*;
use proptest::sample::Index;
use qwgpu_model::checkpoint::Checkpoint;
use qwgpu_model::config::{Config, GenerationConfig};
use qwgpu_model::{Error, rope};
use serde_json::Value;

use super::{GOOD_HEADER, config, moe_config, weights};

/// Everything that a caller would do with a checkpoint that opened.
fn exercise(checkpoint: &Checkpoint) {
    let mut total = 0;
    for tensor in checkpoint.tensors() {
        total += tensor.data.iter().map(|byte| usize::from(*byte & 1)).sum::<usize>();
        if let Ok(view) = checkpoint.tensor(tensor.name) {
            assert_eq!(view.dtype.element_bytes(view.shape.iter().product()), view.data.len());
        }
    }
    assert!(total as u64 <= checkpoint.total_bytes());
}

/// Everything that a caller would compute from a configuration that was accepted.
fn exercise_config(config: &Config) {
    assert!(config.n_parameters() > 0 && config.group_size() <= 16 && config.windows.len() == config.n_layers);
    assert!(config.n_active_parameters() <= config.n_parameters());
    if let Some(moe) = &config.moe {
        // what the kernels of a step have room for
        assert!(moe.n_experts <= 256 && moe.n_experts_per_token <= moe.n_experts && moe.n_slots() <= 320);
        assert!(moe.n_shared() > 0 && moe.n_shared() * moe.d_ff_expert >= moe.d_ff_shared && moe.sparse.len() == config.n_layers);
    }
    assert!(rope::inv_freq(config).iter().all(|f| f.is_finite() && *f > 0.0));
    assert!(rope::attention_factor(config).is_finite() && config.max_ctx() <= 1 << 24);
}

fn open_embedded(config: String, weights: Vec<u8>) -> Result<Checkpoint, Error> {
    // Leaked: a few hundred cases of a few hundred bytes.
    let files = vec![
        ("config.json", &*config.into_bytes().leak()),
        ("model.safetensors", &*weights.leak()),
    ];
    Checkpoint::embedded(files.leak(), "damaged")
}

/// Values that a field of a configuration should not have, and some that it might.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (0u64..300).prop_map(Value::from),
        (0u32..64).prop_map(|shift| Value::from(1u64 << shift)),
        any::<f64>().prop_map(Value::from),
        (-3.0..300.0f64).prop_map(Value::from),
        prop::sample::select(vec![
            "yarn",
            "default",
            "silu",
            "qwen2",
            "qwen2_moe",
            "sliding_attention",
            "float16",
            "\u{1f98a}\0"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 12, 4, |inner| {
        let keys = vec![
            "type",
            "rope_type",
            "factor",
            "rope_theta",
            "original_max_position_embeddings",
            "beta_fast",
            "beta_slow",
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(prop::sample::select(keys), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().map(|(key, value)| (key.into(), value)).collect())),
        ]
    })
}

fn any_field() -> impl Strategy<Value = String> {
    let mut names: Vec<String> = moe_config().as_object().unwrap().keys().cloned().collect();
    let more = [
        "head_dim",
        "rope_scaling",
        "rope_parameters",
        "layer_types",
        "dtype",
        "partial_rotary_factor",
    ];
    names.extend(more.map(String::from));
    prop::sample::select(names)
}

fn cases(n: u32) -> ProptestConfig {
    ProptestConfig {
        cases: n,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(1500))]

    #[test]
    fn random_damage_to_weights_never_panics(
        edits in prop::collection::vec((any::<Index>(), any::<u8>()), 0..6),
        keep in any::<Index>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = weights(GOOD_HEADER, 20);
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if cut {
            bytes.truncate(keep.index(bytes.len()));
        }
        if let Ok(checkpoint) = open_embedded(config().to_string(), bytes) {
            exercise(&checkpoint);
        }
    }

    #[test]
    fn random_digits_in_headers_never_panic(
        edits in prop::collection::vec((any::<Index>(), "[0-9]{1,20}"), 1..4),
        n_bytes in 0usize..40,
    ) {
        let mut header = GOOD_HEADER.to_string();
        for (at, digits) in edits {
            let places: Vec<usize> = header.match_indices(|c: char| c.is_ascii_digit()).map(|(i, _)| i).collect();
            let at = places[at.index(places.len())];
            header.replace_range(at..=at, &digits);
        }
        if let Ok(checkpoint) = open_embedded(config().to_string(), weights(&header, n_bytes)) {
            exercise(&checkpoint);
        }
    }

    #[test]
    fn random_fields_never_panic(experts in any::<bool>(), changes in prop::collection::vec((any_field(), any_value()), 1..4)) {
        let mut config = if experts { moe_config() } else { config() };
        for (field, value) in changes {
            config[field] = value;
        }
        if let Ok(config) = Config::from_json(&config.to_string()) {
            exercise_config(&config);
        }
        let _ = GenerationConfig::from_json(&config.to_string());
    }

    #[test]
    fn random_damage_to_configurations_never_panics(edits in prop::collection::vec((any::<Index>(), any::<char>()), 1..5)) {
        let mut text: Vec<char> = config().to_string().chars().collect();
        for (at, value) in edits {
            let at = at.index(text.len());
            text[at] = value;
        }
        if let Ok(config) = Config::from_json(&text.into_iter().collect::<String>()) {
            exercise_config(&config);
        }
    }
}
