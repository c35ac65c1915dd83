//! One kernel in one form, and what its text needs of the adapter.

use crate::{Kv, Peak, Probe, Reduce, Split, Weights, forms::CoopGrid};

/// One kernel in one form: all that decides its WGSL text. `Debug` gives the label that errors and profiles show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variant {
    /// Embedding gather.
    Embed {
        /// Storage of the embedding.
        weights: Weights,
    },
    /// Embedding of one token, and its place for all layers.
    EmbedStep {
        /// Storage of the embedding.
        weights: Weights,
    },
    /// RMS norm.
    RmsNorm {
        /// How squares are summed.
        reduce: Reduce,
    },
    /// Matrix times 1 to 8 vectors.
    Matvec {
        /// Storage of the matrix.
        weights: Weights,
        /// How a workgroup shares out its rows.
        split: Split,
        /// One of [`MATVEC_TOKENS`](crate::MATVEC_TOKENS).
        n_tokens: u32,
        /// Rows of the matrix to a workgroup: [`matvec_rows`](crate::matvec_rows), or for one token those of [`STEP_SHARES`](crate::STEP_SHARES).
        rows: u32,
    },
    /// One token: RMS norm, q, k and v, rotation and KV-cache write.
    NormQkvRope {
        /// Storage of the matrix.
        weights: Weights,
        /// How a workgroup shares out its rows.
        split: Split,
        /// Rows of the matrix to a workgroup, those of [`STEP_SHARES`](crate::STEP_SHARES) but one.
        rows: u32,
        /// Storage of the cache.
        kv: Kv,
        /// One of [`HEAD_DIMS`](crate::HEAD_DIMS).
        head_dim: u32,
    },
    /// One token: RMS norm, gate and up, SwiGLU.
    NormGateUp {
        /// Storage of the matrix.
        weights: Weights,
        /// How a workgroup shares out its rows.
        split: Split,
        /// Rows of the matrix to a workgroup, those of [`STEP_SHARES`](crate::STEP_SHARES) but one; half of them of gate.
        rows: u32,
    },
    /// Norm, logits of all experts, softmax and the choice of each token.
    Router,
    /// The same for few tokens, a workgroup a logit.
    RouterDecode {
        /// How logits are summed.
        reduce: Reduce,
    },
    /// One token: RMS norm, gate and up of its experts, SwiGLU.
    ExpertsGateUp {
        /// Storage of the stack of experts.
        weights: Weights,
        /// How a workgroup shares out its rows.
        split: Split,
        /// Rows of an expert to a workgroup, those of [`STEP_SHARES`](crate::STEP_SHARES) but one; half of them of gate.
        rows: u32,
    },
    /// One token: the weighted sum of its experts' second halves.
    ExpertsDown {
        /// Storage of the stack of experts.
        weights: Weights,
        /// How a workgroup shares out its rows.
        split: Split,
        /// Rows of each expert to a workgroup, one of those of [`STEP_SHARES`](crate::STEP_SHARES).
        rows: u32,
    },
    /// Quantised matrix times one vector of bytes, with integer dot products.
    MatvecDot {
        /// [`Weights::Q8`] or [`Weights::Q4`].
        weights: Weights,
        /// How products are summed.
        reduce: Reduce,
        /// One of [`MATVEC_DOT_ROWS`](crate::MATVEC_DOT_ROWS).
        rows: u32,
    },
    /// Activations to bytes, for [`Variant::MatvecDot`] and other kernels with integer dot products.
    Quantize,
    /// One token's RMS norm, to bytes.
    NormQuantize {
        /// How squares are summed.
        reduce: Reduce,
    },
    /// [`Variant::NormGateUp`] with quantised weights and x normalised and in bytes.
    GateUpDot {
        /// [`Weights::Q8`] or [`Weights::Q4`].
        weights: Weights,
        /// How products are summed.
        reduce: Reduce,
        /// One of [`PAIRS_DOT_ROWS`](crate::PAIRS_DOT_ROWS).
        rows: u32,
    },
    /// [`Variant::NormQkvRope`] with quantised weights and x normalised and in bytes.
    QkvRopeDot {
        /// [`Weights::Q8`] or [`Weights::Q4`].
        weights: Weights,
        /// How products are summed.
        reduce: Reduce,
        /// 2 or 4.
        rows: u32,
        /// Storage of the cache.
        kv: Kv,
        /// One of [`HEAD_DIMS`](crate::HEAD_DIMS).
        head_dim: u32,
    },
    /// [`Variant::QkvRopeDot`] with the norm.
    NormQkvRopeDot {
        /// [`Weights::Q8`] or [`Weights::Q4`].
        weights: Weights,
        /// Whether teams add up with subgroup operations.
        subgroup: bool,
        /// Storage of the cache.
        kv: Kv,
        /// One of [`HEAD_DIMS`](crate::HEAD_DIMS).
        head_dim: u32,
    },
    /// [`Variant::ExpertsGateUp`] with quantised weights and x in bytes.
    ExpertsGateUpDot {
        /// [`Weights::Q8`] or [`Weights::Q4`].
        weights: Weights,
        /// How products are summed.
        reduce: Reduce,
        /// One of [`PAIRS_DOT_ROWS`](crate::PAIRS_DOT_ROWS).
        rows: u32,
    },
    /// [`Variant::ExpertsDown`] with quantised weights and hidden activations in bytes.
    ExpertsDownDot {
        /// [`Weights::Q8`] or [`Weights::Q4`].
        weights: Weights,
        /// How products are summed.
        reduce: Reduce,
        /// One of [`MATVEC_DOT_ROWS`](crate::MATVEC_DOT_ROWS).
        rows: u32,
    },
    /// Matrix times many vectors.
    Matmul {
        /// Storage of the matrix.
        weights: Weights,
        /// Whether it is a stack of matrices, each with rows of its own.
        grouped: bool,
    },
    /// Matrix times many vectors, on cooperative matrices.
    MatmulCoop {
        /// Storage of the matrix.
        weights: Weights,
        /// How a tile is shared out.
        grid: CoopGrid,
        /// Whether it is a stack of matrices, each with rows of its own.
        grouped: bool,
    },
    /// The list of rows of each expert.
    GroupExperts,
    /// The weighted sum of what a token's experts have made.
    CombineExperts,
    /// Rows to f16, each scaled by a power of two.
    ToF16,
    /// [`Variant::RmsNorm`], straight to f16.
    NormToF16 {
        /// How squares are summed.
        reduce: Reduce,
    },
    /// [`Variant::SiluMul`], straight to f16.
    SiluMulToF16,
    /// Rotary embedding and KV-cache write.
    Rope {
        /// Storage of the cache.
        kv: Kv,
        /// One of [`HEAD_DIMS`](crate::HEAD_DIMS).
        head_dim: u32,
    },
    /// Attention of many query rows.
    AttentionPrefill {
        /// Storage of the cache.
        kv: Kv,
        /// One of [`HEAD_DIMS`](crate::HEAD_DIMS).
        head_dim: u32,
        /// Query heads to a kv head, 1 to [`MAX_GROUP`](crate::MAX_GROUP).
        group: u32,
    },
    /// Attention of many query rows on cooperative matrices, with an f16 cache.
    AttentionPrefillCoop {
        /// One of [`HEAD_DIMS`](crate::HEAD_DIMS).
        head_dim: u32,
        /// Query heads to a kv head, 1 to [`MAX_GROUP`](crate::MAX_GROUP).
        group: u32,
        /// Invocations of a subgroup, 32 or 64.
        subgroup: u32,
    },
    /// Attention of few query rows, split over the context.
    AttentionDecode {
        /// Storage of the cache.
        kv: Kv,
        /// One of [`HEAD_DIMS`](crate::HEAD_DIMS).
        head_dim: u32,
        /// Query heads to a kv head, 1 to [`MAX_GROUP`](crate::MAX_GROUP).
        group: u32,
        /// Whether loops have constant bounds: for GPUs.
        unrolled: bool,
    },
    /// The first half of one token's feed-forward with its result in bytes.
    GateUpBytes {
        /// q8 or q4.
        weights: Weights,
        /// Whether the first weights are fetched before x is normalised.
        ahead: bool,
        /// Whether teams add up with subgroup operations.
        subgroup: bool,
    },
    /// Attention of few query rows over a short context.
    AttentionShort {
        /// Storage of the cache.
        kv: Kv,
        /// One of [`HEAD_DIMS`](crate::HEAD_DIMS).
        head_dim: u32,
        /// Whether teams add up with subgroup operations.
        subgroup: bool,
    },
    /// Attention of few query rows on cooperative matrices, split over the context, with an f16 cache.
    AttentionDecodeCoop {
        /// One of [`HEAD_DIMS`](crate::HEAD_DIMS).
        head_dim: u32,
        /// Query heads to a kv head, 1 to [`MAX_GROUP`](crate::MAX_GROUP).
        group: u32,
        /// Invocations of a subgroup, 32 or 64.
        subgroup: u32,
    },
    /// Joins the splits of [`Variant::AttentionDecode`] and [`Variant::AttentionDecodeCoop`].
    AttentionMerge {
        /// One of [`HEAD_DIMS`](crate::HEAD_DIMS).
        head_dim: u32,
    },
    /// SwiGLU's silu(gate) * up.
    SiluMul,
    /// Id of the largest logit.
    Argmax {
        /// How the best is found.
        reduce: Reduce,
    },
    /// The best k of each chunk of logits.
    Topk,
    /// A draw by temperature, top-k, top-p and min-p.
    Sample,
    /// Repetition penalty.
    Penalty,
    /// Random weights.
    FillRandom,
    /// A known case of the self-test.
    Probe(Probe),
    /// A ceiling of the adapter; no model runs it.
    Peak(Peak),
}

impl Variant {
    /// The kernel's stem: the name of its file in every folder, but for the text of products of experts, which is [`Variant::file`].
    #[must_use]
    pub const fn stem(&self) -> &'static str {
        match self {
            Self::Embed { .. } => "embed",
            Self::EmbedStep { .. } => "embed_step",
            Self::RmsNorm { .. } => "rms_norm",
            Self::Matvec { .. } => "matvec",
            Self::NormQkvRope { .. } => "norm_qkv_rope",
            Self::NormGateUp { .. } => "norm_gate_up",
            Self::Router => "router",
            Self::RouterDecode { .. } => "router_decode",
            Self::ExpertsGateUp { .. } => "experts_gate_up",
            Self::ExpertsDown { .. } => "experts_down",
            Self::MatvecDot { .. } => "matvec_dot",
            Self::Quantize => "quantize",
            Self::Matmul { grouped: true, .. } => "matmul_experts",
            Self::MatmulCoop { grouped: true, .. } => "matmul_experts_coop",
            Self::NormQuantize { .. } => "norm_quantize",
            Self::GateUpDot { .. } => "gate_up_dot",
            Self::QkvRopeDot { .. } => "qkv_rope_dot",
            Self::NormQkvRopeDot { .. } => "norm_qkv_rope_dot",
            Self::ExpertsGateUpDot { .. } => "experts_gate_up_dot",
            Self::ExpertsDownDot { .. } => "experts_down_dot",
            Self::Matmul { .. } => "matmul",
            Self::MatmulCoop { .. } => "matmul_coop",
            Self::GroupExperts => "group_experts",
            Self::CombineExperts => "combine_experts",
            Self::ToF16 => "to_f16",
            Self::NormToF16 { .. } => "norm_to_f16",
            Self::SiluMulToF16 => "silu_mul_to_f16",
            Self::Rope { .. } => "rope",
            Self::AttentionPrefill { .. } => "attention_prefill",
            Self::AttentionPrefillCoop { .. } => "attention_prefill_coop",
            Self::AttentionDecode { .. } => "attention_decode",
            Self::AttentionDecodeCoop { .. } => "attention_decode_coop",
            Self::AttentionShort { .. } => "attention_short",
            Self::GateUpBytes { .. } => "gate_up_bytes",
            Self::AttentionMerge { .. } => "attention_merge",
            Self::SiluMul => "silu_mul",
            Self::Argmax { .. } => "argmax",
            Self::Topk => "topk",
            Self::Sample => "sample",
            Self::Penalty => "penalty",
            Self::FillRandom => "fill_random",
            Self::Probe(probe) => probe.stem(),
            Self::Peak(Peak::Read) => "peak_read",
            Self::Peak(Peak::F32) => "peak_f32",
            Self::Peak(Peak::F16) => "peak_f16",
            Self::Peak(Peak::Dot) => "peak_dot",
            Self::Peak(Peak::Coop { .. }) => "peak_coop",
        }
    }

    /// The name of the file with its text: the stem, but where two kernels differ in shared parts alone.
    #[must_use]
    pub const fn file(&self) -> &'static str {
        match self {
            Self::Matmul { .. } => "matmul",
            Self::MatmulCoop { .. } => "matmul_coop",
            other => other.stem(),
        }
    }

    /// How the weights that it reads are stored, if it reads any.
    #[must_use]
    pub const fn weights(&self) -> Option<Weights> {
        match self {
            Self::Embed { weights }
            | Self::EmbedStep { weights }
            | Self::Matvec { weights, .. }
            | Self::MatvecDot { weights, .. }
            | Self::NormQkvRope { weights, .. }
            | Self::NormGateUp { weights, .. }
            | Self::ExpertsGateUp { weights, .. }
            | Self::ExpertsDown { weights, .. }
            | Self::Matmul { weights, .. }
            | Self::GateUpDot { weights, .. }
            | Self::GateUpBytes { weights, .. }
            | Self::QkvRopeDot { weights, .. }
            | Self::NormQkvRopeDot { weights, .. }
            | Self::ExpertsGateUpDot { weights, .. }
            | Self::ExpertsDownDot { weights, .. }
            | Self::MatmulCoop { weights, .. } => Some(*weights),
            _ => None,
        }
    }

    /// Whether the text needs the f16 type.
    #[must_use]
    pub const fn needs_f16(&self) -> bool {
        match self {
            Self::Embed { weights }
            | Self::EmbedStep { weights }
            | Self::Matvec { weights, .. }
            | Self::NormGateUp { weights, .. }
            | Self::ExpertsGateUp { weights, .. }
            | Self::ExpertsDown { weights, .. }
            | Self::Matmul { weights, .. } => matches!(weights, Weights::F16),
            Self::NormQkvRope { weights, kv, .. } => matches!(weights, Weights::F16) || matches!(kv, Kv::F16),
            Self::QkvRopeDot { kv, .. }
            | Self::NormQkvRopeDot { kv, .. }
            | Self::Rope { kv, .. }
            | Self::AttentionPrefill { kv, .. }
            | Self::AttentionDecode { kv, .. }
            | Self::AttentionShort { kv, .. } => matches!(kv, Kv::F16),
            Self::Probe(probe) => probe.needs_f16(),
            Self::Peak(peak) => matches!(peak, Peak::F16 | Peak::Coop { .. }),
            Self::MatmulCoop { .. } | Self::AttentionPrefillCoop { .. } | Self::AttentionDecodeCoop { .. } => true,
            _ => false,
        }
    }

    /// Whether the text uses cooperative matrices.
    #[must_use]
    pub const fn needs_coop(&self) -> bool {
        match self {
            Self::MatmulCoop { .. } | Self::AttentionPrefillCoop { .. } | Self::AttentionDecodeCoop { .. } => true,
            Self::Peak(peak) => matches!(peak, Peak::Coop { .. }),
            Self::Probe(probe) => matches!(probe, Probe::Coop(_)),
            _ => false,
        }
    }

    /// Whether the text uses subgroup operations.
    #[must_use]
    pub const fn needs_subgroups(&self) -> bool {
        match self {
            Self::RmsNorm { reduce }
            | Self::MatvecDot { reduce, .. }
            | Self::RouterDecode { reduce }
            | Self::NormQuantize { reduce }
            | Self::GateUpDot { reduce, .. }
            | Self::QkvRopeDot { reduce, .. }
            | Self::NormToF16 { reduce }
            | Self::ExpertsGateUpDot { reduce, .. }
            | Self::ExpertsDownDot { reduce, .. }
            | Self::Argmax { reduce } => reduce.subgroup,
            Self::Matvec { split, .. }
            | Self::NormQkvRope { split, .. }
            | Self::NormGateUp { split, .. }
            | Self::ExpertsGateUp { split, .. }
            | Self::ExpertsDown { split, .. } => split.needs_subgroups(),
            Self::GateUpBytes { subgroup, .. } | Self::NormQkvRopeDot { subgroup, .. } | Self::AttentionShort { subgroup, .. } => *subgroup,
            Self::Probe(probe) => matches!(probe, Probe::Subgroup { .. }),
            Self::MatmulCoop { .. } | Self::AttentionPrefillCoop { .. } | Self::AttentionDecodeCoop { .. } => true,
            _ => false,
        }
    }
}
