//! The WGSL kernels of qwgpu and the table of their variants.
//!
//! A kernel is one `.wgsl` file of plain WGSL beside this one. [`compose`] puts a header of constants and the shared parts that
//! a [`Variant`] asks for before it: module-scope WGSL is order-independent, so concatenation is all the linking there is.
//! There are no text macros; `enable` lines are written here alone.
//!
//! To work on a kernel without a compiler at hand, load the files from a folder: [`Sources::from_dir`].

mod forms; // weights, caches, grids: what variants vary in
mod probe;
mod table; // all variants
mod text; // parts and constants of each
mod variant;

use std::{borrow::Cow, fmt::Write, io, path::Path, path::PathBuf};

pub use forms::{
    CoopGrid, HEAD_DIMS, KV_BLOCK, Kv, MATVEC_DOT_ROWS, MATVEC_DOT_WORKGROUPS, MATVEC_TOKENS, MATVEC_TOKENS_BY_ROWS, MATVEC_WORKGROUPS,
    MAX_EXPERTS, MAX_GROUP, MAX_SLOTS, MAX_SPLITS, NORM_QKV_DOT_ROWS, PAIRS_DOT_ROWS, Peak, QKV_DOT_ROWS, QUANTIZE_WORKGROUP, ROWS_EACH,
    Reduce, SCALES_BINDING, STEP_SHARES, Split, Weights, matvec_rows,
};
pub use probe::{CoopTile, Probe};
pub use variant::Variant;

macro_rules! files {
    ($($path:literal),* $(,)?) => { &[$(($path, include_str!(concat!($path, ".wgsl")))),*] };
}

/// Every file of this folder by its path without the ending.
const FILES: &[(&str, &str)] = files![
    "argmax",
    "attention_decode",
    "attention_decode_coop",
    "attention_merge",
    "attention_prefill",
    "attention_prefill_coop",
    "attention_short",
    "combine_experts",
    "embed",
    "embed_step",
    "experts_down",
    "experts_down_dot",
    "experts_gate_up",
    "experts_gate_up_dot",
    "fill_random",
    "gate_up_bytes",
    "gate_up_dot",
    "group_experts",
    "matmul",
    "matmul_coop",
    "matvec",
    "norm_gate_up",
    "norm_qkv_rope",
    "norm_qkv_rope_dot",
    "norm_quantize",
    "norm_to_f16",
    "matvec_dot",
    "peak_coop",
    "peak_dot",
    "peak_f16",
    "peak_f32",
    "peak_read",
    "penalty",
    "probe_coop",
    "probe_dot",
    "probe_f16",
    "probe_subgroup",
    "qkv_rope_dot",
    "quantize",
    "rms_norm",
    "rope",
    "router",
    "router_decode",
    "sample",
    "silu_mul",
    "silu_mul_to_f16",
    "to_f16",
    "topk",
    "shared/best_subgroup",
    "shared/best_workgroup",
    "shared/by_columns",
    "shared/by_rows",
    "shared/byte_scale",
    "shared/bytes_apart",
    "shared/bytes_joined",
    "shared/choice",
    "shared/coop_16_f16",
    "shared/coop_8_f16",
    "shared/coop_8_f32",
    "shared/dot_q4",
    "shared/dot_q8",
    "shared/dot_rows",
    "shared/f16_rows",
    "shared/kv_f16",
    "shared/kv_f32",
    "shared/kv_index",
    "shared/norm_bytes",
    "shared/norm_rows",
    "shared/place",
    "shared/order",
    "shared/qkv_rope",
    "shared/reduce_subgroup",
    "shared/reduce_workgroup",
    "shared/row",
    "shared/rows_dense",
    "shared/rows_grouped",
    "shared/slots",
    "shared/team_subgroup",
    "shared/team_workgroup",
    "shared/to_bytes",
    "shared/u64",
    "shared/weight_bf16",
    "shared/weight_f16",
    "shared/weight_f16_packed",
    "shared/weight_f32",
    "shared/weight_q4",
    "shared/weight_q8",
];

/// Where kernel texts come from: the binary itself, or a folder laid out as this one.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    dir: Option<PathBuf>,
}

/// A file of the folder given to [`Sources::from_dir`] that could not be read.
#[derive(Debug)]
pub struct SourceError {
    /// The file.
    pub path: PathBuf,
    /// What the operating system said.
    pub source: io::Error,
}

impl Sources {
    /// The texts built into the binary.
    #[must_use]
    pub const fn embedded() -> Self {
        Self { dir: None }
    }

    /// Texts read from `dir` each time a variant is composed.
    #[must_use]
    pub fn from_dir(dir: &Path) -> Self {
        Self { dir: Some(dir.to_owned()) }
    }

    /// Whether these are the texts built into the binary.
    #[must_use]
    pub const fn is_embedded(&self) -> bool {
        self.dir.is_none()
    }

    fn text(&self, name: &str) -> Result<Cow<'static, str>, SourceError> {
        let Some(dir) = &self.dir else {
            let file = FILES.iter().find(|(path, _)| *path == name);
            return Ok(Cow::Borrowed(file.expect("every part that a variant names is listed in FILES").1));
        };
        let path = dir.join(name).with_extension("wgsl");
        std::fs::read_to_string(&path)
            .map(Cow::Owned)
            .map_err(|source| SourceError { path, source })
    }
}

/// The whole WGSL text of a variant: directives, constants, shared parts, kernel.
///
/// # Errors
/// Only with [`Sources::from_dir`]: a file cannot be read.
pub fn compose(variant: &Variant, sources: &Sources) -> Result<String, SourceError> {
    let mut text = String::new();
    if variant.needs_f16() {
        text.push_str("enable f16;\n");
    }
    if variant.needs_coop() {
        text.push_str("enable wgpu_cooperative_matrix;\n");
    }
    for (name, value) in variant.consts() {
        writeln!(text, "const {name}: u32 = {value}u;").expect("writing to a String cannot fail");
    }
    for part in variant.parts() {
        text.push_str(&sources.text(&format!("shared/{part}"))?);
    }
    text.push_str(&sources.text(variant.file())?);
    Ok(text)
}
