//! Intermediates of sparse layers. A token has a slot for each expert that it uses; a pair is a token and one of its slots.

use qwgpu_runtime::{
    Elem, Gpu, Tensor,
    kernels::{group_experts::Groups, matmul_coop, to_f16::Operand},
};

use crate::{
    Result,
    config::{Config, Moe},
};

/// Buffers of a batch of `n_tokens` rows, so `n_tokens * n_slots` pairs.
#[derive(Debug)]
pub(crate) struct ExpertActivations {
    /// Of the router, and last of the shared expert's gate: `[n_tokens, n_experts + 1]`
    pub(crate) logits: Tensor,
    /// u32 `[n_tokens, k]`
    pub(crate) chosen: Tensor,
    /// Weights of the chosen experts, and last of the shared one: `[n_tokens, k + 1]`
    pub(crate) factors: Tensor,
    /// Pairs in order of expert
    pub(crate) groups: Groups,
    /// In order of expert, `[n_pairs, 2 f]`
    pub(crate) gate_up: Tensor,
    /// `[n_pairs, f]`: in order of expert, in a step of one token in order of slot
    pub(crate) hidden: Tensor,
    /// Each expert's output in order of token and slot, `[n_pairs, d_model]`; in the memory of `gate_up`, which is used up by then
    pub(crate) out: Tensor,
    /// `hidden` in f16, where matrix units take it
    pub(crate) operand: Option<Operand>,
    /// How many tokens each expert was chosen for since the session began: u32 `[n_layers, n_experts]`
    pub(crate) usage: Tensor,
}

/// The experts, if any layer has some.
fn moe(config: &Config) -> Option<&Moe> {
    (0..config.n_layers).find_map(|layer| config.experts(layer))
}

impl ExpertActivations {
    /// Pairs of a token, and columns of what is kept for each at most.
    pub(crate) fn widest(config: &Config) -> Option<(usize, usize)> {
        moe(config).map(|moe| (moe.n_slots(), (2 * moe.d_ff_expert).max(config.d_model)))
    }

    /// Inputs of one token's down, over all its slots.
    pub(crate) fn inputs(config: &Config) -> usize {
        moe(config).map_or(0, |moe| moe.n_slots() * moe.d_ff_expert)
    }

    /// Bytes that [`ExpertActivations::new`] will take, at most.
    pub(crate) fn bytes(config: &Config, batch: usize) -> u64 {
        let (Some(moe), Some((n_slots, width))) = (moe(config), Self::widest(config)) else {
            return 0;
        };
        let per_token = (moe.n_experts + 1) + (2 * moe.n_experts_per_token + 1) + n_slots * (width + moe.d_ff_expert);
        let usage = config.n_layers * moe.n_experts;
        4 * (batch * per_token + usage) as u64
            + Groups::bytes(batch, n_slots, moe.n_stacked())
            + Operand::bytes(batch * n_slots, moe.d_ff_expert)
    }

    /// `None` for a model without sparse layers.
    pub(crate) fn new(gpu: &Gpu, config: &Config, batch: usize) -> Result<Option<Self>> {
        let (Some(moe), Some((n_slots, width))) = (moe(config), Self::widest(config)) else {
            return Ok(None);
        };
        let (n_pairs, k, f) = (batch * n_slots, moe.n_experts_per_token, moe.d_ff_expert);
        let tensor = |label: &str, rows: usize, cols: usize, elem: Elem| Tensor::new(gpu, label, rows, cols, elem);
        let shared = tensor("experts' gate and up, then output", n_pairs, width, Elem::F32)?;
        let operand = || Operand::new(gpu, n_pairs, f);
        Ok(Some(Self {
            logits: tensor("router logits", batch, moe.n_experts + 1, Elem::F32)?,
            chosen: tensor("chosen experts", batch, k, Elem::U32)?,
            factors: tensor("experts' weights", batch, k + 1, Elem::F32)?,
            groups: Groups::new(gpu, batch, n_slots, moe.n_stacked())?,
            gate_up: shared.reshape(n_pairs, 2 * f),
            hidden: tensor("experts' swiglu", n_pairs, f, Elem::F32)?,
            out: shared.reshape(n_pairs, config.d_model),
            operand: (!matmul_coop::grids(gpu.caps()).is_empty()).then(operand).transpose()?,
            usage: tensor("usage of experts", config.n_layers, moe.n_experts, Elem::U32)?,
        }))
    }
}
