//! `qwgpu inspect`: what a checkpoint is and what it will take, found out without a GPU.

use anyhow::Result;
use qwgpu_model::checkpoint::Checkpoint;
use qwgpu_model::config::Config;
use qwgpu_model::{Error, LoadOptions, MemoryPlan};
use qwgpu_runtime::{AdapterInfo, DType, Elem, list_adapters};
use serde::Serialize;

use crate::args::InspectArgs;
use crate::model_args;
use crate::output::{JSON_VERSION, grouped, human_bytes, print, print_json};
use crate::table::Table;

/// Contexts to plan for, as far as the model goes.
const CONTEXTS: [usize; 4] = [2048, 8192, 32_768, 131_072];

/// One line of the memory plan, in bytes.
#[derive(Serialize)]
struct Need {
    dtype: &'static str,
    kv_dtype: &'static str,
    ctx: usize,
    weights: u64,
    kv_cache: u64,
    activations: u64,
    total: u64,
    /// Of weights that a step of one token reads.
    weights_per_token: u64,
}

/// Whether an adapter's limits allow the model.
#[derive(Serialize)]
struct Fit {
    index: usize,
    adapter: String,
    fits: bool,
    /// Bindings over which the largest matrix is spread, as its rows do not fit one.
    bindings_of_largest_matrix: u64,
    /// The longest context whose keys of one layer fit one buffer.
    max_ctx: u64,
    note: String,
}

/// Runs the command.
///
/// # Errors
/// One sentence for the user.
pub(crate) fn run(args: &InspectArgs) -> Result<()> {
    let name = args.model.as_ref().or(args.model_option.as_ref()).map_or("demo", String::as_str);
    let checkpoint = model_args::checkpoint(name)?;
    let config = checkpoint.config();
    let contexts = contexts(config, args.ctx)?;
    let needs = needs(config, &contexts);
    let fits: Vec<Fit> = list_adapters()?.iter().map(|info| fit(config, info, &contexts)).collect();
    if args.json {
        print_json(&report(&checkpoint, &needs, &fits))
    } else {
        print(&text(&checkpoint, &needs, &fits))
    }
}

fn contexts(config: &Config, asked: Option<usize>) -> Result<Vec<usize>> {
    let max = config.max_ctx();
    if let Some(ctx) = asked {
        if ctx == 0 || ctx > max {
            let reason = format!("the model takes 1 to {max} tokens");
            return Err(Error::Option {
                option: "--ctx".into(),
                value: ctx.to_string(),
                reason,
            }
            .into());
        }
        return Ok(vec![ctx]);
    }
    let mut contexts: Vec<usize> = CONTEXTS.into_iter().filter(|&ctx| ctx < max).collect();
    contexts.push(max);
    Ok(contexts)
}

fn needs(config: &Config, contexts: &[usize]) -> Vec<Need> {
    let mut needs = Vec::new();
    for (dtype, dtype_name) in [
        (DType::F32, "f32"),
        (DType::BF16, "bf16 or f16"),
        (DType::Q8, "q8"),
        (DType::Q4, "q4"),
    ] {
        for (kv, kv_name) in [(Elem::F16, "f16"), (Elem::F32, "f32")] {
            for &ctx in contexts {
                let plan = MemoryPlan::new(config, dtype, kv, ctx, LoadOptions::default().batch.min(ctx));
                needs.push(Need {
                    dtype: dtype_name,
                    kv_dtype: kv_name,
                    ctx,
                    weights: plan.weights,
                    kv_cache: plan.kv_cache,
                    activations: plan.activations,
                    total: plan.total(),
                    weights_per_token: MemoryPlan::weights_per_token(config, dtype),
                });
            }
        }
    }
    needs
}

/// The largest matrices as rows of `d_model` elements: so many units of so many rows that stay together.
fn matrices(config: &Config) -> Vec<(usize, usize)> {
    let dense = config.has_dense_layers().then_some((2 * config.d_ff, 1));
    let experts = config.moe.as_ref().map(|moe| (moe.n_stacked(), 2 * moe.d_ff_expert));
    let all = [(config.vocab_size, 1), (config.q_width() + 2 * config.kv_width(), 1)];
    all.into_iter().chain(dense).chain(experts).collect()
}

/// What the limits of an adapter mean for the model. They say nothing of free memory, which no API tells.
fn fit(config: &Config, info: &AdapterInfo, contexts: &[usize]) -> Fit {
    let dtype = config.dtype.unwrap_or(DType::BF16);
    let one = info.caps.max_binding.min(info.caps.max_buffer).max(1);
    let bindings = matrices(config).into_iter().map(|(n, unit)| {
        let unit_bytes = dtype.element_bytes(unit * config.d_model) as u64;
        (n as u64).div_ceil((one / unit_bytes).max(1))
    });
    let bindings_of_largest_matrix = bindings.max().unwrap_or(1);
    let kv = if info.caps.f16 { Elem::F16 } else { Elem::F32 };
    let max_ctx = (one / (config.kv_width() * kv.bytes()) as u64).min(config.max_ctx() as u64);
    let wanted = contexts.iter().copied().max().unwrap_or(1) as u64;
    let note = if max_ctx >= wanted {
        "fits its limits".to_owned()
    } else {
        format!(
            "a binding of {} holds {} tokens of context at most",
            human_bytes(one),
            grouped(max_ctx)
        )
    };
    Fit {
        index: info.index,
        adapter: info.label(),
        fits: max_ctx >= wanted,
        bindings_of_largest_matrix,
        max_ctx,
        note,
    }
}

fn text(checkpoint: &Checkpoint, needs: &[Need], fits: &[Fit]) -> String {
    let mut text = String::new();
    for (name, value) in facts(checkpoint) {
        text += &format!("{name:<14}{value}\n");
    }
    let mut tensors = Table::new(&["tensor", "type", ">shape", ">size", "file"]);
    for tensor in checkpoint.tensors() {
        let shape: Vec<String> = tensor.shape.iter().map(ToString::to_string).collect();
        tensors.row(vec![
            tensor.name.into(),
            tensor.dtype.into(),
            shape.join(" x "),
            human_bytes(tensor.data.len() as u64),
            tensor.file.into(),
        ]);
    }
    let mut memory = Table::new(&[
        "weights as",
        "KV cache as",
        ">context",
        ">weights",
        ">KV cache",
        ">activations",
        ">total",
        ">read for a token",
    ]);
    for need in needs {
        memory.row(vec![
            need.dtype.into(),
            need.kv_dtype.into(),
            grouped(need.ctx as u64),
            human_bytes(need.weights),
            human_bytes(need.kv_cache),
            human_bytes(need.activations),
            human_bytes(need.total),
            human_bytes(need.weights_per_token),
        ]);
    }
    text += &format!("\n{}\nMemory on the GPU\n{}\n", tensors.plain(), memory.plain());
    if fits.is_empty() {
        return text + "No adapter was found to compare with.\n";
    }
    let mut adapters = Table::new(&[">#", "adapter", ">bindings of the largest matrix", ">longest context", "in short"]);
    for fit in fits {
        adapters.row(vec![
            fit.index.to_string(),
            fit.adapter.clone(),
            fit.bindings_of_largest_matrix.to_string(),
            grouped(fit.max_ctx),
            fit.note.clone(),
        ]);
    }
    text + &adapters.plain()
}

/// The configuration in the words of the house.
fn facts(checkpoint: &Checkpoint) -> Vec<(&'static str, String)> {
    let config = checkpoint.config();
    let rope = match &config.rope.yarn {
        None => format!("theta {}", config.rope.theta),
        Some(yarn) => format!(
            "theta {}, YaRN x{} over {}",
            config.rope.theta,
            yarn.factor,
            grouped(yarn.original_max_position_embeddings as u64)
        ),
    };
    let mut facts = vec![
        ("model", checkpoint.name().to_owned()),
        ("architecture", config.architecture.clone()),
        ("parameters", parameters(config)),
        ("files", human_bytes(checkpoint.total_bytes())),
        ("n_layers", config.n_layers.to_string()),
        ("d_model", config.d_model.to_string()),
        (
            "d_ff",
            if config.has_dense_layers() {
                config.d_ff.to_string()
            } else {
                "experts only".into()
            },
        ),
        (
            "heads",
            format!(
                "{} of {}, {} for keys and values",
                config.n_heads, config.head_dim, config.n_kv_heads
            ),
        ),
        (
            "vocab_size",
            format!(
                "{}{}",
                grouped(config.vocab_size as u64),
                if config.tie_word_embeddings {
                    ", head tied to the embedding"
                } else {
                    ""
                }
            ),
        ),
        ("context", grouped(config.max_ctx() as u64)),
        ("rope", rope),
        ("rms_norm_eps", format!("{:e}", config.rms_norm_eps)),
    ];
    if let Some(moe) = &config.moe {
        let sparse = (0..config.n_layers).filter(|&layer| config.experts(layer).is_some()).count();
        facts.push((
            "experts",
            format!(
                "{} of {} in {sparse} of {} layers, {} for a token, and a shared one of {}",
                moe.n_experts, moe.d_ff_expert, config.n_layers, moe.n_experts_per_token, moe.d_ff_shared
            ),
        ));
    }
    let windowed: Vec<usize> = config.windows.iter().copied().flatten().collect();
    if let Some(window) = windowed.first() {
        facts.push(("window", format!("{window} in {} of {} layers", windowed.len(), config.n_layers)));
    }
    facts
}

/// How many there are, and how many a token meets where that differs.
fn parameters(config: &Config) -> String {
    let all = grouped(config.n_parameters());
    if config.moe.is_none() {
        return all;
    }
    format!("{all}, {} of them active", grouped(config.n_active_parameters()))
}

fn report(checkpoint: &Checkpoint, needs: &[Need], fits: &[Fit]) -> serde_json::Value {
    let config = checkpoint.config();
    let tensors: Vec<_> = checkpoint
        .tensors()
        .map(|t| serde_json::json!({ "name": t.name, "dtype": t.dtype, "shape": t.shape, "bytes": t.data.len(), "file": t.file }))
        .collect();
    let yarn = config.rope.yarn.map(|yarn| {
        serde_json::json!({
            "factor": yarn.factor,
            "original_max_position_embeddings": yarn.original_max_position_embeddings,
            "attention_factor": yarn.attention_factor,
        })
    });
    let experts = config.moe.as_ref().map(|moe| {
        serde_json::json!({
            "n_experts": moe.n_experts,
            "n_experts_per_token": moe.n_experts_per_token,
            "d_ff_expert": moe.d_ff_expert,
            "d_ff_shared": moe.d_ff_shared,
            "norm_topk": moe.norm_topk,
            "sparse": moe.sparse,
        })
    });
    serde_json::json!({
        "version": JSON_VERSION,
        "model": checkpoint.name(),
        "architecture": config.architecture,
        "n_parameters": config.n_parameters(),
        "n_active_parameters": config.n_active_parameters(),
        "bytes": checkpoint.total_bytes(),
        "config": {
            "n_layers": config.n_layers,
            "d_model": config.d_model,
            "d_ff": config.d_ff,
            "n_heads": config.n_heads,
            "n_kv_heads": config.n_kv_heads,
            "head_dim": config.head_dim,
            "vocab_size": config.vocab_size,
            "tie_word_embeddings": config.tie_word_embeddings,
            "max_ctx": config.max_ctx(),
            "rms_norm_eps": config.rms_norm_eps,
            "rope_theta": config.rope.theta,
            "yarn": yarn,
            "windows": config.windows,
            "experts": experts,
        },
        "tensors": tensors,
        "memory": needs,
        "adapters": fits,
    })
}
