//! Every intermediate of a forward pass, allocated once for the largest batch and narrowed to the one at hand.

use qwgpu_runtime::{
    BLOCK, Caps, Elem, Gpu, Matrix, Tensor,
    kernels::{attention, embed_step::Place, matmul::Product, matmul_coop, quantize::Bytes, to_f16::Operand},
};

use crate::{Result, config::Config};

mod experts;

pub(crate) use experts::ExpertActivations;

/// Logits are kept for at most this many rows at once: at a vocabulary of 152,064 a row is 608 KB.
pub(crate) const HEAD_ROWS: usize = 32;

/// Buffers of a batch of `n_tokens` rows. One buffer a role: barriers are per buffer.
#[derive(Debug)]
pub(crate) struct Activations {
    /// Residual stream `[n_tokens, d_model]`, f32 throughout
    pub(crate) x: Tensor,
    /// `[n_tokens, d_model]`
    pub(crate) normed: Tensor,
    /// `[n_tokens, (n_heads + 2 n_kv_heads) * head_dim]`
    pub(crate) qkv: Tensor,
    /// Rotated queries `[n_tokens, n_heads * head_dim]`
    pub(crate) q: Tensor,
    /// `[n_tokens, n_heads * head_dim]`
    pub(crate) context: Tensor,
    /// `[n_tokens, 2 d_ff]`
    pub(crate) gate_up: Tensor,
    /// `[n_tokens, d_ff]`
    pub(crate) hidden: Tensor,
    /// Rows of the batch, u32 `[n_tokens, 4]`
    pub(crate) rows: Tensor,
    /// Where the token of a one-token step stands
    pub(crate) place: Place,
    /// Tiles of prefill attention, u32 `[n_tokens, 2]`
    pub(crate) tiles: Tensor,
    /// Partial results of split attention
    pub(crate) scratch: attention::Scratch,
    /// Inputs of products in f16, where matrix units take them
    pub(crate) operand: Option<Operand>,
    /// The input of a product in bytes, for integer dot products
    pub(crate) bytes: Bytes,
    /// `hidden` in bytes, from a kernel that leaves it so; in experts all slots'
    pub(crate) hidden_bytes: Bytes,
    /// What sparse layers have instead of `gate_up` and `hidden`
    pub(crate) experts: Option<ExpertActivations>,
    /// `[HEAD_ROWS, d_model]`
    pub(crate) final_normed: Tensor,
    /// `[HEAD_ROWS, vocab_size]`
    pub(crate) logits: Tensor,
}

/// Columns of each f32 intermediate that has a row for every token: the memory plan adds them up.
fn widths(config: &Config) -> [usize; 7] {
    let qkv = config.q_width() + 2 * config.kv_width();
    [
        config.d_model,
        config.d_model,
        qkv,
        config.q_width(),
        config.q_width(),
        2 * dense_width(config),
        dense_width(config),
    ]
}

/// Inner width of the dense layers; where there are none, the least that a tensor may have.
fn dense_width(config: &Config) -> usize {
    if config.has_dense_layers() { config.d_ff } else { 8 }
}

/// Columns of the widest input of a product.
fn operand_width(config: &Config) -> usize {
    config.d_model.max(config.q_width()).max(dense_width(config))
}

/// The most inputs of one token's product: all slots' together where there are experts.
fn bytes_width(config: &Config) -> usize {
    operand_width(config).max(ExpertActivations::inputs(config))
}

/// Rows of the head's buffers for a batch.
fn head_rows(batch: usize) -> usize {
    batch.min(HEAD_ROWS)
}

impl Activations {
    /// Bytes that [`Activations::new`] will take, at most: without matrix units there is no operand for them.
    pub(crate) fn bytes(config: &Config, batch: usize) -> u64 {
        let per_token = widths(config).iter().sum::<usize>() + 4 + 2;
        let head = head_rows(batch) * (config.d_model + config.vocab_size);
        let scratch = batch.min(attention::MAX_SPLIT_ROWS) * config.n_heads * attention::MAX_SPLITS * (config.head_dim + 2);
        let experts = ExpertActivations::bytes(config, batch);
        let own = 4 * (batch * per_token + head + scratch + Place::words(config.head_dim)) as u64;
        // a byte and a share of its block's two scales, which are kept twice
        let bytes = (bytes_width(config).next_multiple_of(BLOCK) * (BLOCK + 16) / BLOCK + 8) as u64;
        own + Operand::bytes(batch, operand_width(config)) + 2 * bytes + experts
    }

    /// Rows of the largest batch whose every intermediate the adapter takes: as one binding, and with a workgroup for each row.
    pub(crate) fn max_batch(caps: &Caps, config: &Config) -> usize {
        let widest = widths(config).into_iter().max().unwrap_or(1);
        let (pairs, pair_width) = ExpertActivations::widest(config).unwrap_or((1, 1));
        let bytes = 4 * widest.max(pairs * pair_width) as u64;
        let by_size = usize::try_from(caps.max_binding.min(caps.max_buffer) / bytes).unwrap_or(usize::MAX);
        by_size.min(caps.max_workgroups as usize / pairs).max(1)
    }

    pub(crate) fn new(gpu: &Gpu, config: &Config, batch: usize) -> Result<Self> {
        let [d_x, d_normed, d_qkv, d_q, d_context, d_gate_up, d_hidden] = widths(config);
        let tensor = |label: &str, rows: usize, cols: usize, elem: Elem| Tensor::new(gpu, label, rows, cols, elem);
        let f32s = |label: &str, cols: usize| tensor(label, batch, cols, Elem::F32);
        Ok(Self {
            x: f32s("residual stream", d_x)?,
            normed: f32s("normed", d_normed)?,
            qkv: f32s("qkv", d_qkv)?,
            q: f32s("q", d_q)?,
            context: f32s("attention context", d_context)?,
            gate_up: f32s("gate and up", d_gate_up)?,
            hidden: f32s("swiglu", d_hidden)?,
            rows: tensor("rows", batch, 4, Elem::U32)?,
            place: Place::new(gpu, config.head_dim)?,
            tiles: tensor("attention tiles", batch, 2, Elem::U32)?,
            scratch: attention::Scratch::new(gpu, batch, config.n_heads, config.head_dim)?,
            operand: if matmul_coop::grids(gpu.caps()).is_empty() {
                None
            } else {
                Some(Operand::new(gpu, batch, operand_width(config))?)
            },
            bytes: Bytes::new(gpu, bytes_width(config).next_multiple_of(BLOCK))?,
            hidden_bytes: Bytes::new(gpu, bytes_width(config).next_multiple_of(BLOCK))?,
            experts: ExpertActivations::new(gpu, config, batch)?,
            final_normed: tensor("final norm", head_rows(batch), config.d_model, Elem::F32)?,
            logits: tensor("logits", head_rows(batch), config.vocab_size, Elem::F32)?,
        })
    }

    /// `out = x weights^T + bias`
    pub(crate) const fn product<'a>(
        &'a self,
        weights: &'a Matrix,
        x: &'a Tensor,
        bias: Option<&'a Tensor>,
        out: &'a Tensor,
    ) -> Product<'a> {
        Product {
            weights,
            x,
            bias,
            accumulate: false,
            out,
            operand: self.operand.as_ref(),
            in_operand: false,
            bytes: Some(&self.bytes),
            in_bytes: false,
        }
    }

    /// `out += x weights^T`
    pub(crate) const fn residual<'a>(&'a self, weights: &'a Matrix, x: &'a Tensor, out: &'a Tensor) -> Product<'a> {
        Product {
            accumulate: true,
            ..self.product(weights, x, None, out)
        }
    }
}
