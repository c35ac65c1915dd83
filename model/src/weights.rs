//! The model's weights on the GPU.
//!
//! Matrices that are used together are stacked by rows while loading (q, k, v; gate, up; the experts of a layer), so that each is one
//! product.

use qwgpu_runtime::{DType, Gpu, Matrix, Tensor};

use crate::{Result, config::Config};

mod load;
mod random;

pub(crate) use load::Loader;
pub(crate) use random::random;

/// One decoder layer.
#[derive(Debug)]
pub(crate) struct LayerWeights {
    /// `[1, d_model]`
    pub(crate) input_norm: Tensor,
    /// q, k and v stacked: `[(n_heads + 2 n_kv_heads) * head_dim, d_model]`
    pub(crate) qkv: Matrix,
    /// `[1, (n_heads + 2 n_kv_heads) * head_dim]`
    pub(crate) qkv_bias: Tensor,
    /// Both of these vectors joined, for the kernel that has one binding for them: `[1, d_model + (n_heads + 2 n_kv_heads) * head_dim]`
    pub(crate) input_norm_and_bias: Tensor,
    /// `[d_model, n_heads * head_dim]`
    pub(crate) o: Matrix,
    /// `[1, d_model]`
    pub(crate) post_norm: Tensor,
    pub(crate) feed_forward: FeedForward,
}

/// The second half of a layer.
#[derive(Debug)]
pub(crate) enum FeedForward {
    Dense(Dense),
    Sparse(Experts),
}

/// One network for every token.
#[derive(Debug)]
pub(crate) struct Dense {
    /// gate and up stacked: `[2 d_ff, d_model]`
    pub(crate) gate_up: Matrix,
    /// `[d_model, d_ff]`
    pub(crate) down: Matrix,
}

/// Many small networks: `n_stacked` experts of width f, the routed ones first, then the slices of the shared one
/// ([`Moe::n_shared`](crate::config::Moe::n_shared)).
#[derive(Debug)]
pub(crate) struct Experts {
    /// The router's rows and, last, the shared expert's gate: f32 `[n_experts + 1, d_model]`. As f32, because a rounded logit sends a
    /// token elsewhere, and there are few of them.
    pub(crate) router: Matrix,
    /// For each expert gate and up stacked: `[n_stacked * 2 f, d_model]`
    pub(crate) gate_up: Matrix,
    /// `[n_stacked * d_model, f]`
    pub(crate) down: Matrix,
}

/// All weights of a model.
#[derive(Debug)]
pub(crate) struct Weights {
    /// `[vocab_size, d_model]`
    pub(crate) embed: Matrix,
    pub(crate) layers: Vec<LayerWeights>,
    /// `[1, d_model]`
    pub(crate) final_norm: Tensor,
    /// `[vocab_size, d_model]`; `None`: the embedding serves as head too.
    pub(crate) head: Option<Matrix>,
}

impl Weights {
    /// The matrix that turns hidden states into logits.
    pub(crate) fn head(&self) -> &Matrix {
        self.head.as_ref().unwrap_or(&self.embed)
    }
}

/// How the matrices of a model are stored that was asked for in one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Storage {
    /// Those of the layers.
    pub(crate) layers: DType,
    /// The embedding.
    pub(crate) embed: DType,
    /// What makes the logits.
    pub(crate) head: DType,
}

impl Storage {
    /// Every matrix in `dtype`, but for the head, which q4 leaves in q8: in 4 bits it alone may cost more than all layers together. An
    /// embedding that serves as head follows it; one that is only looked up costs little in 4 bits.
    pub(crate) fn new(config: &Config, dtype: DType) -> Self {
        let head = if dtype == DType::Q4 { DType::Q8 } else { dtype };
        Self {
            layers: dtype,
            embed: if config.tie_word_embeddings { head } else { dtype },
            head,
        }
    }
}

/// A row of f32 on the GPU.
fn vector(gpu: &Gpu, label: &str, values: &[f32]) -> Result<Tensor> {
    Ok(Tensor::from_f32(gpu, label, 1, values.len(), values)?)
}
