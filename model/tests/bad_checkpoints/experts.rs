//! Tensors of a mixture of experts that are missing or have another shape: found before anything is uploaded.

use std::sync::Arc;

use qwgpu_model::checkpoint::Checkpoint;
use qwgpu_model::{Error, LoadOptions, Model};
use qwgpu_runtime::{Gpu, GpuOptions};
use serde_json::{Map, Value, json};

use super::{moe_config, weights};

type Tensors = Vec<(String, Vec<usize>)>;

/// Names and shapes of all tensors that [`moe_config`] asks for.
fn tensors() -> Tensors {
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_owned(), vec![512, 128]),
        ("model.norm.weight".into(), vec![128]),
    ];
    for layer in 0..2 {
        let mut add = |name: &str, shape: &[usize]| tensors.push((format!("model.layers.{layer}.{name}"), shape.to_vec()));
        add("input_layernorm.weight", &[128]);
        add("post_attention_layernorm.weight", &[128]);
        for (part, width) in [("q", 128), ("k", 64), ("v", 64)] {
            add(&format!("self_attn.{part}_proj.weight"), &[width, 128]);
            add(&format!("self_attn.{part}_proj.bias"), &[width]);
        }
        add("self_attn.o_proj.weight", &[128, 128]);
        add("mlp.gate.weight", &[8, 128]);
        add("mlp.shared_expert_gate.weight", &[1, 128]);
        let experts = (0..8).map(|expert| (format!("experts.{expert}"), 64));
        for (network, width) in experts.chain([("shared_expert".into(), 96)]) {
            add(&format!("mlp.{network}.gate_proj.weight"), &[width, 128]);
            add(&format!("mlp.{network}.up_proj.weight"), &[width, 128]);
            add(&format!("mlp.{network}.down_proj.weight"), &[128, width]);
        }
    }
    tensors
}

/// A checkpoint of these tensors, in bf16 and one behind the other.
fn checkpoint(tensors: &Tensors) -> Checkpoint {
    let (mut header, mut end) = (Map::new(), 0);
    for (name, shape) in tensors {
        let start = end;
        end += 2 * shape.iter().product::<usize>();
        let entry = json!({"dtype": "BF16", "shape": shape, "data_offsets": [start, end]});
        assert_eq!(header.insert(name.clone(), entry), None, "{name} twice");
    }
    let file = weights(&Value::Object(header).to_string(), end);
    // leaked: a few checkpoints of a megabyte
    let files = vec![
        ("config.json", &*moe_config().to_string().into_bytes().leak()),
        ("model.safetensors", &*file.leak()),
    ];
    Checkpoint::embedded(files.leak(), "damaged").expect("a sound file")
}

fn gpu() -> Arc<Gpu> {
    let mut options = GpuOptions::from_env().expect("environment");
    options.adapter = std::env::var("QWGPU_TEST_ADAPTER").ok().or(options.adapter);
    Gpu::open(&options).expect("an adapter; script/setup installs a software one")
}

/// What loading says, and how many bytes had been uploaded by then.
fn load(gpu: &Arc<Gpu>, tensors: &Tensors) -> (Result<Arc<Model>, Error>, u64) {
    let mut uploaded = 0;
    let mut progress = |done, _| {
        uploaded = done;
        true
    };
    let loaded = Model::load(gpu, &checkpoint(tensors), &LoadOptions::default(), &mut progress);
    (loaded, uploaded)
}

#[test]
fn tensors_of_experts_that_are_missing_or_misshapen_are_named() {
    let gpu = gpu();
    let sound = tensors();
    let (loaded, uploaded) = load(&gpu, &sound);
    assert_eq!(loaded.expect("a sound checkpoint").config().n_layers, 2);
    let n_elements: usize = sound.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    assert_eq!(uploaded, 2 * n_elements as u64, "all of it was uploaded");

    let mlp = |part: &str| format!("model.layers.1.mlp.{part}.weight");
    for part in [
        "experts.7.down_proj",
        "experts.0.gate_proj",
        "shared_expert.up_proj",
        "gate",
        "shared_expert_gate",
    ] {
        let name = mlp(part);
        let without: Tensors = sound.iter().filter(|(other, _)| *other != name).cloned().collect();
        assert_eq!(without.len() + 1, sound.len(), "{name}");
        let (loaded, uploaded) = load(&gpu, &without);
        let error = loaded.expect_err(&name);
        assert!(
            matches!(&error, Error::MissingTensor { name: found } if *found == name),
            "{name}: {error:?}"
        );
        check_sentence(&error, &name, uploaded);
    }
    for (part, shape) in [
        ("experts.3.gate_proj", [128, 64]),
        ("experts.3.up_proj", [56, 128]),
        ("experts.3.down_proj", [128, 72]),
        ("shared_expert.gate_proj", [128, 128]),
        ("shared_expert.down_proj", [96, 128]),
        ("gate", [9, 128]),
        ("gate", [8, 64]),
        ("shared_expert_gate", [2, 128]),
    ] {
        let name = mlp(part);
        let reshape = |(other, old): &(String, Vec<usize>)| (other.clone(), if *other == name { shape.to_vec() } else { old.clone() });
        let (loaded, uploaded) = load(&gpu, &sound.iter().map(reshape).collect());
        let error = loaded.expect_err(&name);
        assert!(
            matches!(&error, Error::TensorShape { name: of, found, .. } if *of == name && *found == shape),
            "{name}: {error:?}"
        );
        check_sentence(&error, &name, uploaded);
    }
}

/// One line that names the tensor, before the first byte was uploaded.
fn check_sentence(error: &Error, name: &str, uploaded: u64) {
    let message = error.to_string();
    assert!(message.contains(&format!("`{name}`")) && message.lines().count() == 1, "{message}");
    assert_eq!(uploaded, 0, "{message}");
}
