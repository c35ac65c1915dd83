//! The shape of a model: `config.json`, read and validated once, under this project's names.
//!
//! Everything after this module may trust a [`Config`]: sizes lie within limits that no later product overflows, divisions
//! come out whole, and what the kernels cannot do has been refused here by the name of the field that asks for it.
//! Hugging Face names occur in `config/read.rs` only.

use qwgpu_runtime::DType;

use crate::Result;

mod fields;
mod generation;
mod read;
#[cfg(test)]
mod tests;

pub use generation::GenerationConfig;

/// The file's name, for error messages.
const FILE: &str = "config.json";

/// Which of the family's two architectures a checkpoint has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelType {
    /// One feed-forward network per layer.
    Qwen2,
    /// A router and many small feed-forward networks in some layers.
    Qwen2Moe,
}

/// A validated model configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The architecture.
    pub model_type: ModelType,
    /// The first entry of `architectures`, for display; empty when absent.
    pub architecture: String,
    /// Width of the residual stream (`hidden_size`), a multiple of 8.
    pub d_model: usize,
    /// Inner width of the dense feed-forward network (`intermediate_size`), a multiple of 8.
    pub d_ff: usize,
    /// Transformer layers (`num_hidden_layers`), 1 to 1000.
    pub n_layers: usize,
    /// Query heads (`num_attention_heads`), a multiple of `n_kv_heads`.
    pub n_heads: usize,
    /// Key and value heads (`num_key_value_heads`).
    pub n_kv_heads: usize,
    /// Elements of one head, 64 or 128. `n_heads * head_dim` need not be `d_model`.
    pub head_dim: usize,
    /// Rows of the embedding; more than the tokenizer has where the table is padded.
    pub vocab_size: usize,
    /// Added to the mean square before the root in every norm.
    pub rms_norm_eps: f32,
    /// The rotary embedding.
    pub rope: Rope,
    /// Positions that the model was trained for, before any YaRN; see [`Config::max_ctx`].
    pub max_position_embeddings: usize,
    /// Whether the output head is the embedding matrix.
    pub tie_word_embeddings: bool,
    /// For each layer the sliding window in positions, the current one included; `None` attends to all.
    pub windows: Vec<Option<usize>>,
    /// The experts of a [`ModelType::Qwen2Moe`] model.
    pub moe: Option<Moe>,
    /// The type that the authors saved the weights in, where they say so. The tensors carry their own.
    pub dtype: Option<DType>,
    /// Token ids that end an answer; `generation_config.json` may name more.
    pub eos_token_ids: Vec<u32>,
}

/// Rotary position embedding: frequencies theta^(-2i / head_dim), stretched by YaRN or not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// The base (`rope_theta`), above 1.
    pub theta: f64,
    /// The long-context extension, where the configuration turns it on.
    pub yarn: Option<Yarn>,
}

/// YaRN (Peng et al. 2023, arXiv 2309.00071) as transformers reads it; the formulas are in [`crate::rope`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Yarn {
    /// How much the slow frequencies are stretched, 1 or more.
    pub factor: f64,
    /// The context before stretching, in positions.
    pub original_max_position_embeddings: usize,
    /// Pairs that turn more often than this over the original context are left alone.
    pub beta_fast: f64,
    /// Pairs that turn less often than this are stretched in full.
    pub beta_slow: f64,
    /// Multiplies cos and sin; given, or derived from `factor`.
    pub attention_factor: f64,
    /// Whether the ends of the ramp are rounded outward to whole pairs.
    pub truncate: bool,
}

/// The mixture-of-experts part of a configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Moe {
    /// Routed experts per sparse layer (`num_experts`), 256 at most.
    pub n_experts: usize,
    /// Experts chosen for a token (`num_experts_per_tok`).
    pub n_experts_per_token: usize,
    /// Inner width of a routed expert (`moe_intermediate_size`), a multiple of 8.
    pub d_ff_expert: usize,
    /// Inner width of the shared expert (`shared_expert_intermediate_size`), a multiple of 8.
    pub d_ff_shared: usize,
    /// Whether the chosen experts' weights are divided by their sum.
    pub norm_topk: bool,
    /// For each layer whether it has experts, from `decoder_sparse_step` and `mlp_only_layers`; the others are dense.
    pub sparse: Vec<bool>,
}

impl Config {
    /// The names that [`Config::preset`] knows.
    pub const PRESETS: [&str; 5] = ["0.5b", "1.5b", "7b", "57b-a14b", "72b"];

    /// Reads and validates the text of a `config.json`, in the spellings of transformers 4 and 5.
    ///
    /// # Errors
    /// [`Error::Json`](crate::Error::Json) when the text is no JSON object; [`Error::Config`](crate::Error::Config) naming the field, its
    /// value and what would be accepted, for anything missing, out of range, contradictory or not supported.
    pub fn from_json(text: &str) -> Result<Self> {
        read::config(text)
    }

    /// The published shape called `name` (one of [`Config::PRESETS`]), as the base of a model with random weights.
    #[must_use]
    pub fn preset(name: &str) -> Option<Self> {
        // d_model, d_ff, n_layers, n_heads, n_kv_heads, head_dim, vocab_size, tied: Qwen2 report, arXiv 2407.10671
        let (d_model, d_ff, n_layers, n_heads, n_kv_heads, head_dim, vocab_size, tied) = match name {
            "0.5b" => (896, 4864, 24, 14, 2, 64, 151_936, true),
            "1.5b" => (1536, 8960, 28, 12, 2, 128, 151_936, true),
            "7b" => (3584, 18_944, 28, 28, 4, 128, 152_064, false),
            // no layer is dense; the width is its config's all the same
            "57b-a14b" => (3584, 18_944, 28, 28, 4, 128, 151_936, false),
            "72b" => (8192, 29_568, 80, 64, 8, 128, 152_064, false),
            _ => return None,
        };
        let moe = (name == "57b-a14b").then(|| Moe {
            n_experts: 64,
            n_experts_per_token: 8,
            d_ff_expert: 2560,
            d_ff_shared: 20_480,
            norm_topk: false,
            sparse: vec![true; n_layers],
        });
        let (model_type, architecture) = match &moe {
            None => (ModelType::Qwen2, "Qwen2ForCausalLM"),
            Some(_) => (ModelType::Qwen2Moe, "Qwen2MoeForCausalLM"),
        };
        Some(Self {
            model_type,
            architecture: architecture.into(),
            d_model,
            d_ff,
            n_layers,
            n_heads,
            n_kv_heads,
            head_dim,
            vocab_size,
            rms_norm_eps: 1e-6,
            rope: Rope { theta: 1e6, yarn: None },
            max_position_embeddings: 131_072,
            tie_word_embeddings: tied,
            windows: vec![None; n_layers],
            moe,
            dtype: Some(DType::BF16),
            eos_token_ids: vec![151_643],
        })
    }

    /// Query heads that share a key and value head, 1 to 16.
    #[must_use]
    pub const fn group_size(&self) -> usize {
        self.n_heads / self.n_kv_heads
    }

    /// Elements of all query heads of a token, `n_heads * head_dim`.
    #[must_use]
    pub const fn q_width(&self) -> usize {
        self.n_heads * self.head_dim
    }

    /// Elements of all key (or all value) heads of a token, `n_kv_heads * head_dim`.
    #[must_use]
    pub const fn kv_width(&self) -> usize {
        self.n_kv_heads * self.head_dim
    }

    /// The longest context in tokens: with YaRN its factor times the original context, else `max_position_embeddings`.
    #[must_use]
    pub fn max_ctx(&self) -> usize {
        match &self.rope.yarn {
            // At most read::MAX_POSITIONS, checked when it was read, so the product is exact in f64.
            Some(yarn) => (yarn.factor * yarn.original_max_position_embeddings as f64) as usize,
            None => self.max_position_embeddings,
        }
    }

    /// The experts of a layer; `None` where it is dense.
    #[must_use]
    pub fn experts(&self, layer: usize) -> Option<&Moe> {
        self.moe.as_ref().filter(|moe| moe.sparse[layer])
    }

    /// Whether any layer has the dense feed-forward network.
    #[must_use]
    pub fn has_dense_layers(&self) -> bool {
        (0..self.n_layers).any(|layer| self.experts(layer).is_none())
    }

    /// Parameters of the model, a tied head counted once.
    #[must_use]
    pub fn n_parameters(&self) -> u64 {
        self.count(|moe| moe.n_experts) + self.n_vocabulary_parameters()
    }

    /// The same without the experts that a token is not sent to: what the A in 57B-A14B counts.
    #[must_use]
    pub fn n_active_parameters(&self) -> u64 {
        self.count(|moe| moe.n_experts_per_token) + self.n_vocabulary_parameters()
    }

    /// Parameters that a step of one token reads: the active ones, but of an embedding that is not the head too just one row.
    #[must_use]
    pub fn n_parameters_per_token(&self) -> u64 {
        self.count(|moe| moe.n_experts_per_token) + (self.vocab_size * self.d_model) as u64
    }

    /// Embedding and head.
    fn n_vocabulary_parameters(&self) -> u64 {
        let matrices = if self.tie_word_embeddings { 1 } else { 2 };
        matrices * (self.vocab_size * self.d_model) as u64
    }

    /// All parameters but embedding and head, with so many routed experts in each sparse layer.
    fn count(&self, n_experts: impl Fn(&Moe) -> usize) -> u64 {
        let [d, q, kv] = [self.d_model, self.q_width(), self.kv_width()].map(|n| n as u64);
        let ffn = |width: usize| 3 * d * width as u64;
        let attention = d * (q + 2 * kv) + (q + 2 * kv) + q * d;
        let feed_forward = |layer: usize| match self.experts(layer) {
            Some(moe) => n_experts(moe) as u64 * ffn(moe.d_ff_expert) + d * moe.n_experts as u64 + ffn(moe.d_ff_shared) + d,
            None => ffn(self.d_ff),
        };
        (0..self.n_layers).map(|layer| 2 * d + attention + feed_forward(layer)).sum::<u64>() + d
    }
}

impl Moe {
    /// Slices of a routed expert's width that the shared expert is cut into, the last one padded with zeros: a SwiGLU network of width m f
    /// is the sum of m networks of width f, and so the shared expert is a few more experts that every token uses.
    #[must_use]
    pub const fn n_shared(&self) -> usize {
        self.d_ff_shared.div_ceil(self.d_ff_expert)
    }

    /// Experts of a layer, the shared one's slices last.
    #[must_use]
    pub const fn n_stacked(&self) -> usize {
        self.n_experts + self.n_shared()
    }

    /// Experts that a token uses, the shared one's slices last.
    #[must_use]
    pub const fn n_slots(&self) -> usize {
        self.n_experts_per_token + self.n_shared()
    }
}
