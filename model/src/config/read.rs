//! `config.json` to [`Config`]: the only place that knows Hugging Face's field names and their defaults.
//!
//! Fields that change the result and that no kernel implements are refused; fields that only concern training are ignored.
//! The limits keep every later product of sizes far from overflow and every mistake close to its field.

use std::ops::RangeInclusive;

use qwgpu_runtime::DType;
use serde_json::Value;

use super::fields::{Fields, parse_object};
use super::{Config, FILE, ModelType, Moe, Rope, Yarn};
use crate::Result;

/// Widest residual stream.
const MAX_D_MODEL: usize = 1 << 17;
/// Widest feed-forward network.
const MAX_D_FF: usize = 1 << 20;
/// Most query heads.
const MAX_HEADS: usize = 1 << 10;
/// Most rows of the embedding.
const MAX_VOCAB: usize = 1 << 20;
/// Longest context, sixteen times that of the million-token models.
const MAX_POSITIONS: usize = 1 << 24;
/// Weights are read 16 bytes at a time, which is eight 16-bit elements.
const WIDTH_STEP: usize = 8;
/// Most routed experts: the router has one invocation for each.
const MAX_EXPERTS: usize = 256;
/// Most slices of a routed expert's width that the shared expert is cut into: with [`MAX_EXPERTS`] as many slots as a step has room for.
const MAX_SHARED: usize = 64;
/// Query heads that one key head can serve: attention kernels keep that many rows of queries together.
const GROUPS: RangeInclusive<usize> = 1..=16;

/// Reads everything, mixture-of-experts fields included.
pub(super) fn config(text: &str) -> Result<Config> {
    let map = parse_object(FILE, text)?;
    let fields = Fields::new(FILE, &map);
    let model_type = model_type(&fields)?;
    refuse_unsupported(&fields)?;
    let n_layers = fields.need_count("num_hidden_layers", 1..=1000)?;
    let d_model = width(&fields, "hidden_size", MAX_D_MODEL)?;
    let (n_heads, n_kv_heads, head_dim) = heads(&fields, d_model)?;
    let max_position_embeddings = fields.need_count("max_position_embeddings", 1..=MAX_POSITIONS)?;
    let moe = match model_type {
        ModelType::Qwen2 => None,
        ModelType::Qwen2Moe => Some(moe(&fields, n_layers)?),
    };
    Ok(Config {
        model_type,
        architecture: architecture(&fields)?,
        d_model,
        d_ff: width(&fields, "intermediate_size", MAX_D_FF)?,
        n_layers,
        n_heads,
        n_kv_heads,
        head_dim,
        vocab_size: fields.need_count("vocab_size", 1..=MAX_VOCAB)?,
        rms_norm_eps: fields.need_real("rms_norm_eps", 1e-12..=0.1)? as f32,
        rope: rope(&fields, max_position_embeddings)?,
        max_position_embeddings,
        tie_word_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(false),
        windows: windows(&fields, n_layers)?,
        moe,
        dtype: dtype(&fields)?,
        eos_token_ids: fields.token_ids("eos_token_id")?,
    })
}

fn model_type(fields: &Fields) -> Result<ModelType> {
    match fields.text("model_type")? {
        Some("qwen2") => Ok(ModelType::Qwen2),
        Some("qwen2_moe") => Ok(ModelType::Qwen2Moe),
        _ => Err(fields.wrong("model_type", "only checkpoints of type qwen2 and qwen2_moe can be run")),
    }
}

/// Refuses what would make the output silently wrong.
fn refuse_unsupported(fields: &Fields) -> Result<()> {
    if fields.get("quantization_config").is_some() {
        return Err(fields.wrong(
            "quantization_config",
            "quantised checkpoints cannot be loaded; use the f32, f16 or bf16 original",
        ));
    }
    if fields.get("dual_chunk_attention_config").is_some() {
        let reason = "dual chunk attention is not supported yet; remove the field to run with ordinary attention";
        return Err(fields.wrong("dual_chunk_attention_config", reason));
    }
    if !matches!(fields.text("hidden_act")?, None | Some("silu")) {
        return Err(fields.wrong("hidden_act", "only silu is supported"));
    }
    // (field, the value that the kernels assume and that is also the default)
    for (name, assumed) in [("qkv_bias", true), ("is_causal", true), ("use_mrope", false)] {
        if fields.flag(name)?.is_some_and(|flag| flag != assumed) {
            return Err(fields.wrong(name, format!("only {assumed} is supported")));
        }
    }
    Ok(())
}

/// A width that the kernels read in steps of 16 bytes.
fn width(fields: &Fields, name: &str, max: usize) -> Result<usize> {
    let width = fields.need_count(name, 1..=max)?;
    if !width.is_multiple_of(WIDTH_STEP) {
        return Err(fields.wrong(
            name,
            format!("it must be a multiple of {WIDTH_STEP}: weights are read 16 bytes at a time"),
        ));
    }
    Ok(width)
}

/// -> (n_heads, n_kv_heads, head_dim)
fn heads(fields: &Fields, d_model: usize) -> Result<(usize, usize, usize)> {
    let n_heads = fields.need_count("num_attention_heads", 1..=MAX_HEADS)?;
    let n_kv_heads = fields.need_count("num_key_value_heads", 1..=MAX_HEADS)?;
    if !n_heads.is_multiple_of(n_kv_heads) {
        return Err(fields.wrong(
            "num_key_value_heads",
            format!("it must divide num_attention_heads, which is {n_heads}"),
        ));
    }
    let group = n_heads / n_kv_heads;
    if !GROUPS.contains(&group) {
        let reason = format!("{group} query heads would share a key head, and at most {} may", GROUPS.end());
        return Err(fields.wrong("num_key_value_heads", reason));
    }
    let given = fields.count("head_dim", 1..=1 << 16)?;
    if given.is_none() && !d_model.is_multiple_of(n_heads) {
        let reason = format!("it must divide hidden_size, which is {d_model}, where head_dim is not given");
        return Err(fields.wrong("num_attention_heads", reason));
    }
    match given.unwrap_or(d_model / n_heads) {
        head_dim @ (64 | 128) => Ok((n_heads, n_kv_heads, head_dim)),
        other => {
            let source = if given.is_some() {
                ""
            } else {
                " (hidden_size / num_attention_heads)"
            };
            Err(fields.wrong(
                "head_dim",
                format!("heads of 64 or 128 elements are supported, not {other}{source}"),
            ))
        }
    }
}

fn architecture(fields: &Fields) -> Result<String> {
    match fields.list("architectures")?.first() {
        None => Ok(String::new()),
        Some(Value::String(name)) => Ok(name.clone()),
        Some(_) => Err(fields.wrong("architectures", "it must be a list of strings")),
    }
}

/// The saved type, under its old name (`torch_dtype`) or its new one.
fn dtype(fields: &Fields) -> Result<Option<DType>> {
    let name = if fields.get("dtype").is_some() { "dtype" } else { "torch_dtype" };
    match fields.text(name)? {
        None | Some("auto") => Ok(None),
        Some("float32") => Ok(Some(DType::F32)),
        Some("float16") => Ok(Some(DType::F16)),
        Some("bfloat16") => Ok(Some(DType::BF16)),
        Some(_) => Err(fields.wrong(name, "only float32, float16 and bfloat16 are supported")),
    }
}

/// The rotary embedding, from `rope_theta` and `rope_scaling` (transformers 4) or from `rope_parameters` (transformers 5).
fn rope(fields: &Fields, max_position_embeddings: usize) -> Result<Rope> {
    let (old, new) = (fields.get("rope_scaling"), fields.get("rope_parameters"));
    if old.is_some() && new.is_some() && old != new {
        return Err(fields.wrong(
            "rope_parameters",
            "rope_scaling is there too and says something else; keep one of them",
        ));
    }
    let inner = match new {
        Some(_) => fields.object("rope_parameters", "rope_parameters.")?,
        None => fields.object("rope_scaling", "rope_scaling.")?,
    };
    for scope in [Some(*fields), inner].into_iter().flatten() {
        if scope.real("partial_rotary_factor", 0.0..=1.0)?.is_some_and(|part| part != 1.0) {
            return Err(scope.wrong("partial_rotary_factor", "only heads that are rotated as a whole are supported"));
        }
    }
    // Above 1 so that frequencies fall with the pair's index, which YaRN's logarithms take for granted.
    let base = |scope: &Fields| scope.real("rope_theta", 1.0 + 1e-6..=1e12);
    let outer_theta = base(fields)?;
    let Some(inner) = inner else {
        return Ok(Rope {
            theta: outer_theta.unwrap_or(10_000.0),
            yarn: None,
        });
    };
    let theta = base(&inner)?.or(outer_theta).unwrap_or(10_000.0);
    let kind = if inner.get("rope_type").is_some() { "rope_type" } else { "type" };
    match inner.text(kind)? {
        Some("default") => Ok(Rope { theta, yarn: None }),
        Some("yarn") => Ok(Rope {
            theta,
            yarn: Some(yarn(&inner, max_position_embeddings)?),
        }),
        Some(_) => Err(inner.wrong(kind, "only default and yarn are supported")),
        None => Err(inner.wrong("rope_type", "it must be default or yarn")),
    }
}

/// YaRN's parameters. `factor` counts as given, whatever max_position_embeddings says: configurations that were edited for
/// long contexts raise that field and mean the same model (transformers only warns).
fn yarn(fields: &Fields, max_position_embeddings: usize) -> Result<Yarn> {
    let factor = fields.need_real("factor", 1.0..=1024.0)?;
    let original = fields
        .count("original_max_position_embeddings", 1..=MAX_POSITIONS)?
        .unwrap_or(max_position_embeddings);
    if factor * original as f64 > MAX_POSITIONS as f64 {
        return Err(fields.wrong(
            "factor",
            format!("times the original context of {original} it exceeds {MAX_POSITIONS} positions"),
        ));
    }
    let beta_fast = fields.real("beta_fast", 1e-3..=1e6)?.unwrap_or(32.0);
    let beta_slow = fields.real("beta_slow", 1e-3..=1e6)?.unwrap_or(1.0);
    if beta_fast <= beta_slow {
        return Err(fields.wrong("beta_fast", format!("it must be above beta_slow, which is {beta_slow}")));
    }
    // How sharp attention has to be for the longer context; `mscale` where DeepSeek's two fields replace the rule.
    let sharpness = |mscale: f64| 0.1 * mscale * factor.ln() + 1.0;
    let mscale = (fields.real("mscale", 0.0..=100.0)?, fields.real("mscale_all_dim", 0.0..=100.0)?);
    let derived = match mscale {
        (Some(a), Some(b)) if a != 0.0 && b != 0.0 => sharpness(a) / sharpness(b),
        _ => sharpness(1.0),
    };
    Ok(Yarn {
        factor,
        original_max_position_embeddings: original,
        beta_fast,
        beta_slow,
        attention_factor: fields.real("attention_factor", 1e-3..=1e3)?.unwrap_or(derived),
        truncate: fields.flag("truncate")?.unwrap_or(true),
    })
}

/// Each layer's window: from `layer_types` where it is given, else from `use_sliding_window` and `max_window_layers`.
fn windows(fields: &Fields, n_layers: usize) -> Result<Vec<Option<usize>>> {
    let enabled = fields.flag("use_sliding_window")?;
    let window = fields.count("sliding_window", 1..=MAX_POSITIONS)?;
    let first = fields.count("max_window_layers", 0..=MAX_POSITIONS)?;
    let missing = |name| fields.wrong(name, "layers with a sliding window need it");
    if fields.get("layer_types").is_none() {
        if enabled != Some(true) {
            return Ok(vec![None; n_layers]);
        }
        let (window, first) = (
            window.ok_or_else(|| missing("sliding_window"))?,
            first.ok_or_else(|| missing("max_window_layers"))?,
        );
        return Ok((0..n_layers).map(|layer| (layer >= first).then_some(window)).collect());
    }
    let types = fields.list("layer_types")?;
    if types.len() != n_layers {
        return Err(fields.wrong(
            "layer_types",
            format!("it must have one entry for each of the {n_layers} layers, not {}", types.len()),
        ));
    }
    let layer_window = |kind: &Value| match kind.as_str() {
        Some("full_attention") => Ok(None),
        Some("sliding_attention") if enabled == Some(false) => Err(fields.wrong(
            "use_sliding_window",
            "layer_types names layers with sliding_attention; make the two agree",
        )),
        Some("sliding_attention") => window.map(Some).ok_or_else(|| missing("sliding_window")),
        _ => Err(fields.wrong(
            "layer_types",
            format!("{kind} is no layer type; full_attention and sliding_attention are supported"),
        )),
    };
    types.iter().map(layer_window).collect()
}

fn moe(fields: &Fields, n_layers: usize) -> Result<Moe> {
    let n_experts = fields.need_count("num_experts", 1..=MAX_EXPERTS)?;
    let step = fields.count("decoder_sparse_step", 1..=1000)?.unwrap_or(1);
    let mut sparse: Vec<bool> = (0..n_layers).map(|layer| (layer + 1).is_multiple_of(step)).collect();
    for layer in fields.list("mlp_only_layers")? {
        let slot = layer.as_u64().and_then(|i| usize::try_from(i).ok()).and_then(|i| sparse.get_mut(i));
        *slot.ok_or_else(|| fields.wrong("mlp_only_layers", format!("it must list layers from 0 to {}", n_layers - 1)))? = false;
    }
    let moe = Moe {
        n_experts,
        n_experts_per_token: fields.need_count("num_experts_per_tok", 1..=n_experts)?,
        d_ff_expert: width(fields, "moe_intermediate_size", MAX_D_FF)?,
        d_ff_shared: width(fields, "shared_expert_intermediate_size", MAX_D_FF)?,
        norm_topk: fields.flag("norm_topk_prob")?.unwrap_or(false),
        sparse,
    };
    if moe.n_shared() > MAX_SHARED {
        let reason = format!(
            "{MAX_SHARED} times moe_intermediate_size, which is {}, is supported at most",
            moe.d_ff_expert
        );
        return Err(fields.wrong("shared_expert_intermediate_size", reason));
    }
    Ok(moe)
}
