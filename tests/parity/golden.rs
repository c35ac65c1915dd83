//! Golden cases: a checkpoint, a prompt, and what transformers computes with them.
//!
//! `CASE.json` holds the token ids and what to change in the checkpoint's `config.json`; `CASE.safetensors` holds logits and, in
//! some cases, hidden states and one layer's intermediates. The README beside the files says what each tensor is.

use std::collections::HashMap;
use std::path::Path;

use qwgpu_model::checkpoint::Checkpoint;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{find, skip};

/// One golden case, with its checkpoint opened.
pub(crate) struct Golden {
    pub(crate) name: String,
    pub(crate) prompt: Vec<u32>,
    /// The greedy continuation of `prompt`.
    pub(crate) generated: Vec<u32>,
    pub(crate) checkpoint: Checkpoint,
    tensors: HashMap<String, Values>,
    /// Holds the changed `config.json`; dropped after the checkpoint that is mapped from it.
    _changed: Option<TempDir>,
}

/// A golden tensor as rows, one for each position.
pub(crate) struct Values {
    pub(crate) cols: usize,
    pub(crate) values: Vec<f32>,
}

impl Golden {
    /// Opens a case, from the repository or from `../shared`; where there is neither, says so and returns `None`.
    pub(crate) fn open(name: &str) -> Option<Self> {
        let json = find(&format!("tests/golden/cases/{name}.json"), &format!("reference/golden/{name}.json"));
        let Some(json) = json else {
            skip(&format!("parity {name} (needs ../shared/reference)"));
            return None;
        };
        let case = read_json(&json);
        let checkpoint = text(&case, "checkpoint");
        let folder = find(
            &format!("tests/golden/checkpoints/{checkpoint}"),
            &format!("reference/checkpoints/{checkpoint}"),
        );
        let Some(folder) = folder else {
            skip(&format!("parity {name} (needs the checkpoint {checkpoint} in ../shared/reference)"));
            return None;
        };
        let overrides = case["config_overrides"].as_object().cloned().unwrap_or_default();
        let changed = (!overrides.is_empty()).then(|| with_config(&folder, overrides));
        let folder = changed.as_ref().map_or(folder.as_path(), TempDir::path);
        Some(Self {
            name: name.into(),
            prompt: ids(&case["input_ids"]),
            generated: ids(&case["generated_ids"]),
            checkpoint: Checkpoint::open(folder).unwrap_or_else(|error| panic!("{name}: {error}")),
            tensors: read_tensors(&json.with_extension("safetensors")),
            _changed: changed,
        })
    }

    /// The prompt followed by its continuation: everything golden is computed for all of these positions.
    pub(crate) fn sequence(&self) -> Vec<u32> {
        [self.prompt.as_slice(), &self.generated].concat()
    }

    /// The tensor of that name, if this case has it.
    pub(crate) fn tensor(&self, name: &str) -> Option<&Values> {
        self.tensors.get(name)
    }

    /// Logits of all positions.
    pub(crate) fn logits(&self) -> &Values {
        self.tensor("logits").unwrap_or_else(|| panic!("{}: no golden logits", self.name))
    }
}

/// A copy of the checkpoint `folder` with `overrides` laid over its `config.json`.
fn with_config(folder: &Path, overrides: serde_json::Map<String, Value>) -> TempDir {
    let copy = tempfile::tempdir().expect("a temporary folder");
    for entry in folder.read_dir().expect("a checkpoint folder") {
        let path = entry.expect("a file of the checkpoint").path();
        let target = copy.path().join(path.file_name().expect("a name"));
        if path.ends_with("config.json") {
            let mut config = read_json(&path);
            config
                .as_object_mut()
                .expect("config.json holds an object")
                .extend(overrides.clone());
            std::fs::write(&target, config.to_string()).expect("config.json in the temporary folder");
        } else {
            std::fs::copy(&path, &target).expect("a copy in the temporary folder");
        }
    }
    copy
}

/// Reads a file of the repository's own; anything wrong with it fails the test.
pub(crate) fn read_json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A string field.
pub(crate) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("`{field}` is no string"))
}

/// A list of token ids.
pub(crate) fn ids(value: &Value) -> Vec<u32> {
    let list = value.as_array().expect("a list of token ids");
    list.iter()
        .map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok()).expect("a token id"))
        .collect()
}

/// All f32 tensors of a file, as rows, and those of ids (i32) as whole numbers.
fn read_tensors(path: &Path) -> HashMap<String, Values> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = SafeTensors::deserialize(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut tensors = HashMap::new();
    for (name, view) in file.tensors() {
        let words = view.data().as_chunks::<4>().0.iter();
        let values = match view.dtype() {
            Dtype::F32 => words.map(|bytes| f32::from_le_bytes(*bytes)).collect(),
            Dtype::I32 => words.map(|bytes| i32::from_le_bytes(*bytes) as f32).collect(),
            _ => continue,
        };
        let cols = view.shape()[1..].iter().product();
        tensors.insert(name, Values { cols, values });
    }
    tensors
}
