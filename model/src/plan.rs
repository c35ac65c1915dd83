//! Memory, added up before any of it is allocated.

use qwgpu_runtime::{DType, Elem, Gpu};

use crate::{Error, Result, activations::Activations, config::Config, kv_cache::KvCache};

/// What a model will take on the GPU, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// All weights in their storage type; norms and biases as f32.
    pub weights: u64,
    /// Keys and values of a whole context.
    pub kv_cache: u64,
    /// Intermediates of the largest batch.
    pub activations: u64,
}

impl MemoryPlan {
    /// The plan of a model with weights in `dtype`, a KV cache of `ctx` positions in `kv`, and batches of `batch` rows.
    #[must_use]
    pub fn new(config: &Config, dtype: DType, kv: Elem, ctx: usize, batch: usize) -> Self {
        Self {
            weights: weights(config, dtype),
            kv_cache: KvCache::bytes(config, ctx, kv),
            activations: Activations::bytes(config, batch),
        }
    }

    /// All of it.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.weights + self.kv_cache + self.activations
    }

    /// Compares the plan with what is known of the adapter's memory.
    ///
    /// No GPU API of wgpu tells how much memory is free. Known are: `QWGPU_MEMORY_MIB`, where the user sets it, and on CPU drivers
    /// what the system has available. Elsewhere the driver's own refusal ends the load.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] with the numbers; [`Error::Option`] when the variable is not a number.
    pub fn check(&self, gpu: &Gpu) -> Result<()> {
        let (limit_name, limit) = match std::env::var("QWGPU_MEMORY_MIB") {
            Ok(text) => match text.trim().parse::<u64>() {
                Ok(mib) => ("QWGPU_MEMORY_MIB", mib.saturating_mul(1 << 20)),
                Err(_) => {
                    let reason = "it must be a whole number of MiB".into();
                    return Err(Error::Option {
                        option: "QWGPU_MEMORY_MIB".into(),
                        value: text,
                        reason,
                    });
                }
            },
            Err(_) if gpu.caps().cpu => match available_system_memory() {
                Some(bytes) => ("the memory that this machine has available", bytes),
                None => return Ok(()),
            },
            Err(_) => return Ok(()),
        };
        if self.total() <= limit {
            return Ok(());
        }
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        Err(Error::OutOfMemory {
            what: format!(
                "this model (weights {} MiB, KV cache {} MiB, activations {} MiB)",
                mib(self.weights),
                mib(self.kv_cache),
                mib(self.activations)
            ),
            needed_mib: mib(self.total()),
            limit_name: limit_name.into(),
            limit_mib: limit >> 20,
            advice: "use a smaller model, a smaller --ctx, or --dtype q8 or q4".into(),
        })
    }
}

/// Bytes of all weights: matrices in `dtype`, but routers, norms and biases in f32.
fn weights(config: &Config, dtype: DType) -> u64 {
    let (d, q, kv) = (config.d_model, config.q_width(), config.kv_width());
    let qkv = q + 2 * kv;
    let vocabulary = if config.tie_word_embeddings { 1 } else { 2 } * config.vocab_size * d;
    let feed_forward = |layer| match config.experts(layer) {
        None => (3 * config.d_ff * d, 0),
        // the shared expert's last slice may be padded
        Some(moe) => (moe.n_stacked() * 3 * moe.d_ff_expert * d, (moe.n_experts + 1) * d),
    };
    // a step of one token has the input norm and the bias in one more tensor
    let vectors = 2 * d + qkv + (d + qkv);
    let (mut elements, mut floats) = (vocabulary, d);
    for layer in 0..config.n_layers {
        let (matrices, router) = feed_forward(layer);
        elements += (qkv + q) * d + matrices;
        floats += vectors + router;
    }
    (dtype.row_bytes(elements) + 4 * floats) as u64
}

/// Linux: `MemAvailable`. Elsewhere unknown.
fn available_system_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}
