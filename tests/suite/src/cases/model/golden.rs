//! What transformers computes with small random checkpoints, embedded, so that the binary alone can tell.

use qwgpu_model::checkpoint::Checkpoint;
use safetensors::SafeTensors;
use serde_json::Value;

use crate::Failure;

/// A golden case's files: its name, its checkpoint's, and what transformers computed.
pub(super) struct Files {
    pub(super) name: &'static str,
    checkpoint: &'static [(&'static str, &'static [u8])],
    case: &'static str,
    tensors: &'static [u8],
}

macro_rules! files {
    ($($name:literal on $checkpoint:literal),* $(,)?) => { &[$(Files {
        name: $name,
        checkpoint: &[
            ("config.json", include_bytes!(concat!("../../../../golden/checkpoints/", $checkpoint, "/config.json"))),
            ("generation_config.json", include_bytes!(concat!("../../../../golden/checkpoints/", $checkpoint, "/generation_config.json"))),
            ("model.safetensors", include_bytes!(concat!("../../../../golden/checkpoints/", $checkpoint, "/model.safetensors"))),
        ],
        case: include_str!(concat!("../../../../golden/cases/", $name, ".json")),
        tensors: include_bytes!(concat!("../../../../golden/cases/", $name, ".safetensors")),
    }),*] };
}

/// Every golden case that is embedded.
pub(super) const GOLDENS: &[Files] = files![
    "tiny-dense.p1" on "tiny-dense",
    "tiny-dense.p24" on "tiny-dense",
    "tiny-dense-f32.p24" on "tiny-dense-f32",
    "tiny-dense-hd128.p24" on "tiny-dense-hd128",
    "tiny-swa.p60" on "tiny-dense",
    "tiny-yarn.p24" on "tiny-yarn",
];

/// A golden case, read.
pub(super) struct Golden {
    pub(super) checkpoint: Checkpoint,
    pub(super) prompt: Vec<u32>,
    /// The greedy continuation of `prompt`.
    pub(super) generated: Vec<u32>,
    /// Of all positions of prompt and continuation, `[n_tokens, vocab_size]`.
    pub(super) logits: Vec<f32>,
}

impl Files {
    /// Reads them.
    ///
    /// # Errors
    /// Never with the files as committed.
    pub(super) fn open(&self) -> Result<Golden, Failure> {
        let broken = |what: String| Failure::new(format!("{}: {what}", self.name));
        let case: Value = serde_json::from_str(self.case).map_err(|error| broken(error.to_string()))?;
        let tensors = SafeTensors::deserialize(self.tensors).map_err(|error| broken(error.to_string()))?;
        let logits = tensors.tensor("logits").map_err(|error| broken(error.to_string()))?;
        let float = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        Ok(Golden {
            checkpoint: self
                .checkpoint(&case["config_overrides"])
                .map_err(|error| broken(error.to_string()))?,
            prompt: ids(&case["input_ids"]),
            generated: ids(&case["generated_ids"]),
            logits: logits.data().chunks_exact(4).map(float).collect(),
        })
    }

    /// The checkpoint, with `overrides` laid over its `config.json`.
    fn checkpoint(&self, overrides: &Value) -> Result<Checkpoint, Box<dyn std::error::Error>> {
        let mut files = self.checkpoint.to_vec();
        if let Some(overrides) = overrides.as_object().filter(|overrides| !overrides.is_empty()) {
            let mut config: serde_json::Map<String, Value> = serde_json::from_slice(files[0].1)?;
            config.extend(overrides.clone());
            // embedded checkpoints live as long as the program; this one is half a kilobyte
            files[0].1 = serde_json::to_vec(&config)?.leak();
        }
        Ok(Checkpoint::embedded(files.leak(), self.name)?)
    }
}

/// A list of token ids; empty where there is none, which no case takes for an answer.
pub(super) fn ids(value: &Value) -> Vec<u32> {
    let list = value.as_array().into_iter().flatten();
    list.filter_map(|id| u32::try_from(id.as_u64()?).ok()).collect()
}
