//! Sound checkpoints open, from folders and from the binary; unsound ones are tested in `tests/bad_checkpoints.rs`.

use std::fs;
use std::path::PathBuf;

use super::*;

const CONFIG: &str = r#"{"model_type": "qwen2", "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 512, "rms_norm_eps": 1e-6, "max_position_embeddings": 64}"#;

/// A weight file; the header is written as given, so that offsets may have any alignment.
fn weights(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

#[test]
fn tensors_are_slices_of_the_file_in_its_order() {
    // `b` starts at an odd byte and is listed first.
    let header = r#"{"__metadata__": {"format": "pt"}, "b": {"dtype": "F32", "shape": [2], "data_offsets": [3, 11]},
        "a": {"dtype": "I8", "shape": [3, 1], "data_offsets": [0, 3]},
        "none": {"dtype": "BF16", "shape": [0, 4], "data_offsets": [11, 11]}}"#;
    let data: Vec<u8> = (0..11).collect();
    let dir = folder(&[("config.json", CONFIG.as_bytes()), ("model.safetensors", &weights(header, &data))]);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let listed: Vec<_> = checkpoint.tensors().map(|t| (t.name, t.dtype, t.shape, t.data)).collect();
    let expected: [(&str, &str, &[usize], &[u8]); 3] = [
        ("a", "I8", &[3, 1], &data[..3]),
        ("b", "F32", &[2], &data[3..]),
        ("none", "BF16", &[0, 4], &[]),
    ];
    assert_eq!(listed, expected);
    assert_eq!(checkpoint.total_bytes(), 11);
    let b = checkpoint.tensor_of("b", &[2]).unwrap();
    assert_eq!((b.dtype, b.data), (DType::F32, &data[3..]));
    assert!(matches!(checkpoint.tensor("a"), Err(Error::UnsupportedDType { dtype, .. }) if dtype == "I8"));
    assert!(matches!(checkpoint.tensor("c"), Err(Error::MissingTensor { name }) if name == "c"));
    let shape = checkpoint.tensor_of("b", &[2, 1]);
    assert!(matches!(shape, Err(Error::TensorShape { expected, found, .. }) if expected == [2, 1] && found == [2]));
    assert!(checkpoint.contains("a") && !checkpoint.contains("c"));
    assert_eq!(checkpoint.generation(), &GenerationConfig::default());
    assert_eq!(checkpoint.text("tokenizer.json").unwrap(), None);
    assert_eq!(checkpoint.text("config.json").unwrap().unwrap(), CONFIG);
    assert_eq!(Some(checkpoint.name()), dir.path().file_name().and_then(|name| name.to_str()));
    assert_eq!(checkpoint.with_name("owner/model").name(), "owner/model");
}

#[test]
fn types_that_the_format_may_gain_are_listed_only() {
    let header = r#"{"x": {"dtype": "F7_NEW", "shape": [8], "data_offsets": [0, 7]}}"#;
    let dir = folder(&[("config.json", CONFIG.as_bytes()), ("model.safetensors", &weights(header, &[0; 7]))]);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.tensors().next().unwrap().dtype, "F7_NEW");
    assert!(matches!(checkpoint.tensor("x"), Err(Error::UnsupportedDType { dtype, .. }) if dtype == "F7_NEW"));
}

#[test]
fn shards_are_joined_in_order() {
    let tensor = |name: &str| format!(r#"{{"{name}": {{"dtype": "F16", "shape": [1], "data_offsets": [0, 2]}}}}"#);
    let index = br#"{"metadata": {"total_size": 4},
        "weight_map": {"a": "model-00002-of-00002.safetensors", "z": "model-00001-of-00002.safetensors"}}"#;
    let dir = folder(&[
        ("config.json", CONFIG.as_bytes()),
        ("generation_config.json", br#"{"eos_token_id": 7, "temperature": 0.5}"#),
        ("model.safetensors.index.json", index),
        ("model-00001-of-00002.safetensors", &weights(&tensor("z"), &[1, 2])),
        ("model-00002-of-00002.safetensors", &weights(&tensor("a"), &[3, 4])),
    ]);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let listed: Vec<_> = checkpoint.tensors().map(|t| (t.file, t.name)).collect();
    assert_eq!(
        listed,
        [("model-00001-of-00002.safetensors", "z"), ("model-00002-of-00002.safetensors", "a")]
    );
    assert_eq!(checkpoint.tensor("a").unwrap().data, [3, 4]);
    assert_eq!(checkpoint.generation().eos_token_ids, [7]);
    assert_eq!(checkpoint.generation().temperature, Some(0.5));
}

#[test]
fn embedded_files_need_no_folder() {
    let header = r#"{"w": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}"#;
    let bytes: &'static [u8] = weights(header, &[5, 6, 7, 8]).leak();
    let files: &'static [(&str, &[u8])] = vec![("config.json", CONFIG.as_bytes()), ("model.safetensors", bytes), ("note", &[0xff])].leak();
    let checkpoint = Checkpoint::embedded(files, "demo").unwrap();
    assert_eq!((checkpoint.name(), checkpoint.config().d_model), ("demo", 128));
    assert_eq!(checkpoint.tensor("w").unwrap().data, [5, 6, 7, 8]);
    assert_eq!(checkpoint.text("tokenizer.json").unwrap(), None);
    assert!(matches!(checkpoint.text("note"), Err(Error::Json { file, .. }) if file == "note"));
    let error = Checkpoint::embedded(&files[..1], "demo").unwrap_err();
    assert!(matches!(error, Error::MissingFile { file, .. } if file == "model.safetensors"));
}

/// Bit for bit what is in the reference checkpoints, found by another way than the one under test: the parameters add up.
#[test]
fn reference_checkpoints_hold_what_their_configuration_says() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/reference/checkpoints");
    if !root.is_dir() {
        println!("SKIPPED: ../shared/reference is not there");
        return;
    }
    for (name, bytes_each) in [
        ("tiny-dense", 2),
        ("tiny-dense-plain", 2),
        ("tiny-dense-hd128", 2),
        ("tiny-dense-f32", 4),
        ("tiny-yarn", 2),
        ("tiny-moe", 2),
        ("tiny-moe-mixed", 2),
        ("tiny-moe-norm", 2),
    ] {
        let checkpoint = Checkpoint::open(&root.join(name)).unwrap();
        let config = checkpoint.config();
        assert_eq!(checkpoint.total_bytes(), config.n_parameters() * bytes_each, "{name}");
        checkpoint
            .tensor_of("model.embed_tokens.weight", &[config.vocab_size, config.d_model])
            .unwrap();
        checkpoint
            .tensor_of("model.layers.1.self_attn.k_proj.bias", &[config.kv_width()])
            .unwrap();
        assert_eq!(checkpoint.contains("lm_head.weight"), !config.tie_word_embeddings, "{name}");
    }
}
