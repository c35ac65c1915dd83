//! Memory, added up before any of it is allocated.

use qwgpu_runtime::{DType, Elem, Gpu};

use crate::{Error, Result, activations::Activations, config::Config, kv_cache::KvCache, weights::Storage};

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
    /// The plan of a model with weights in `dtype` (the head in q8 where that is q4), a KV cache of `ctx` positions in `kv`, and batches of `batch` rows.
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

    /// Bytes of weights in `dtype` that a step of one token reads; norms, biases and routers are counted as if they were in it too.
    #[must_use]
    pub fn weights_per_token(config: &Config, dtype: DType) -> u64 {
        let storage = Storage::new(config, dtype);
        let table = config.vocab_size * config.d_model;
        let others = config.n_parameters_per_token() as usize - table;
        (storage.layers.row_bytes(others) + storage.head.row_bytes(table)) as u64
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
    let storage = Storage::new(config, dtype);
    let table = config.vocab_size * d;
    let untied = if config.tie_word_embeddings {
        0
    } else {
        storage.embed.row_bytes(table)
    };
    let feed_forward = |layer| match config.experts(layer) {
        None => (3 * config.d_ff * d, 0),
        // the shared expert's last slice may be padded
        Some(moe) => (moe.n_stacked() * 3 * moe.d_ff_expert * d, (moe.n_experts + 1) * d),
    };
    // a step of one token has the input norm and the bias in one more tensor
    let vectors = 2 * d + qkv + (d + qkv);
    let (mut elements, mut floats) = (0, d);
    for layer in 0..config.n_layers {
        let (matrices, router) = feed_forward(layer);
        elements += (qkv + q) * d + matrices;
        floats += vectors + router;
    }
    (storage.layers.row_bytes(elements) + storage.head.row_bytes(table) + untied + 4 * floats) as u64
}

/// Linux: `MemAvailable`. Elsewhere unknown.
fn available_system_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of the matrices that a plan counts.
    fn matrices(shape: &str, dtype: DType) -> u64 {
        let config = Config::preset(shape).unwrap();
        let qkv = config.q_width() + 2 * config.kv_width();
        let vectors = config.n_layers * (3 * config.d_model + 2 * qkv) + config.d_model;
        MemoryPlan::new(&config, dtype, Elem::F16, 1, 1).weights - 4 * vectors as u64
    }

    #[test]
    fn q4_leaves_the_head_in_q8() {
        // bits of a block: 144 in q4, 272 in q8
        let bytes = |q4: u64, q8: u64| (q4 * 144 + q8 * 272) / 256;
        let (table, layers) = (152_064 * 3584, 28 * (3584 * (2 * 3584 + 1024) + 3 * 3584 * 18_944));
        assert_eq!(matrices("7b", DType::Q4), bytes(layers + table, table));
        assert_eq!(matrices("7b", DType::Q8), bytes(0, layers + 2 * table));
        let (table, layers) = (151_936 * 896, 24 * (896 * (2 * 896 + 256) + 3 * 896 * 4864));
        assert_eq!(matrices("0.5b", DType::Q4), bytes(layers, table));
        assert_eq!(matrices("0.5b", DType::BF16), 2 * (layers + table));
    }
}
