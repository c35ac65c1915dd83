//! Bad checkpoints end in one clear error that names the file or the field, never in a panic and never in a hang.
//!
//! `files`, `fields` and `experts` take every kind of damage on its own and check its message; `random` damages at random, where only
//! the absence of a panic counts.

mod experts;
mod fields;
mod files;
mod random;

use serde_json::{Value, json};

/// A small sound configuration.
fn config() -> Value {
    json!({
        "architectures": ["Qwen2ForCausalLM"], "hidden_act": "silu", "hidden_size": 128, "intermediate_size": 256,
        "max_position_embeddings": 4096, "max_window_layers": 1, "model_type": "qwen2", "num_attention_heads": 2,
        "num_hidden_layers": 2, "num_key_value_heads": 1, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "sliding_window": 64,
        "tie_word_embeddings": true, "torch_dtype": "bfloat16", "use_sliding_window": false, "vocab_size": 512,
        "eos_token_id": 3
    })
}

/// A small sound configuration with experts in both layers.
fn moe_config() -> Value {
    let mut config = config();
    let fields = json!({
        "model_type": "qwen2_moe", "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 64,
        "shared_expert_intermediate_size": 96, "norm_topk_prob": false, "decoder_sparse_step": 1, "mlp_only_layers": []
    });
    for (field, value) in fields.as_object().expect("an object") {
        config[field] = value.clone();
    }
    config
}

/// A weight file of this header and so many bytes of tensors.
fn weights(header: &str, n_bytes: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![1; n_bytes]].concat()
}

const GOOD_HEADER: &str =
    r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[8,20]}}"#;
