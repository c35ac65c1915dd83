//! The demo model, embedded in the binary: a story-teller of 7 million parameters (`model/demo/DEMO.md`).

use crate::{Result, checkpoint::Checkpoint};

/// Its files, as a checkpoint folder has them.
const FILES: &[(&str, &[u8])] = &[
    ("config.json", include_bytes!("../demo/config.json")),
    ("generation_config.json", include_bytes!("../demo/generation_config.json")),
    ("model.safetensors", include_bytes!("../demo/model.safetensors")),
    ("tokenizer.json", include_bytes!("../demo/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../demo/tokenizer_config.json")),
];

/// Opens it.
///
/// # Errors
/// Never with the files as committed; the result only says what [`Checkpoint::embedded`] says.
pub fn checkpoint() -> Result<Checkpoint> {
    Checkpoint::embedded(FILES, "demo")
}
