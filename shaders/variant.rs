//! What varies from one adapter and model to the next, as types: no strings, no text macros.

use crate::Probe;

/// How weights are stored in their binding; picks one `shared/weight_*.wgsl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Weights {
    /// f32.
    F32,
    /// f16, read through the f16 type.
    F16,
    /// f16, unpacked from u32: any adapter.
    F16Packed,
    /// bf16, unpacked from u32: any adapter.
    Bf16,
}

impl Weights {
    /// Every format.
    pub const ALL: [Self; 4] = [Self::F32, Self::F16, Self::F16Packed, Self::Bf16];
}

/// How the KV cache is stored; picks one `shared/kv_*.wgsl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kv {
    /// f32: any adapter.
    F32,
    /// f16, read through the f16 type.
    F16,
}

impl Kv {
    /// Both formats.
    pub const ALL: [Self; 2] = [Self::F32, Self::F16];
}

/// How a workgroup adds or compares across its invocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reduce {
    /// Subgroup operations, or workgroup memory alone.
    pub subgroup: bool,
    /// Invocations of a workgroup, a power of two from 32 to 256.
    pub workgroup: u32,
}

impl Reduce {
    /// With and without subgroups, for one workgroup size.
    #[must_use]
    pub const fn both(workgroup: u32) -> [Self; 2] {
        [
            Self {
                subgroup: false,
                workgroup,
            },
            Self { subgroup: true, workgroup },
        ]
    }
}

/// A ceiling of the adapter that a `peak_*` kernel measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peak {
    /// Reading memory.
    Read,
    /// f32 multiply-adds.
    F32,
    /// f16 multiply-adds.
    F16,
    /// Packed 8-bit dot products.
    Dot,
    /// Cooperative matrices of 16 x 16, f16 into f32.
    Coop {
        /// Invocations of a workgroup: one subgroup, 32 or 64.
        workgroup: u32,
    },
}

impl Peak {
    /// Every form.
    pub const ALL: [Self; 6] = [
        Self::Read,
        Self::F32,
        Self::F16,
        Self::Dot,
        Self::Coop { workgroup: 32 },
        Self::Coop { workgroup: 64 },
    ];
}

/// Head sizes that the attention kernels are written for.
pub const HEAD_DIMS: [u32; 2] = [64, 128];

/// The largest number of query heads that may share a kv head.
pub const MAX_GROUP: u32 = 16;

/// Splits of the context that attention_merge joins at most.
pub const MAX_SPLITS: u32 = 64;

/// Positions in one block of the paged KV cache. A multiple of the 32 keys that attention walks in.
pub const KV_BLOCK: u32 = 64;

/// Token counts that the mat-vec is compiled for; a batch takes the next larger one.
pub const MATVEC_TOKENS: [u32; 4] = [1, 2, 4, 8];

/// Invocations of a workgroup that the mat-vec is compiled for; an adapter uses one of them.
pub const MATVEC_WORKGROUPS: [u32; 2] = [32, 64];

/// The same for one token, where more invocations to a row keep more loads under way.
pub const MATVEC_WIDE_WORKGROUPS: [u32; 2] = [128, 256];

/// Rows of the matrix that one mat-vec workgroup owns, for a given token count: register use stays at 8 to 16 sums.
#[must_use]
pub const fn matvec_rows(n_tokens: u32) -> u32 {
    if n_tokens <= 2 { 4 } else { 2 }
}

/// One kernel in one form: all that decides its WGSL text. `Debug` gives the label that errors and profiles show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variant {
    /// Embedding gather.
    Embed {
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
        /// How products are summed.
        reduce: Reduce,
        /// One of [`MATVEC_TOKENS`].
        n_tokens: u32,
    },
    /// Matrix times many vectors.
    Matmul {
        /// Storage of the matrix.
        weights: Weights,
    },
    /// Rotary embedding and KV-cache write.
    Rope {
        /// Storage of the cache.
        kv: Kv,
        /// One of [`HEAD_DIMS`].
        head_dim: u32,
    },
    /// Attention of many query rows.
    AttentionPrefill {
        /// Storage of the cache.
        kv: Kv,
        /// One of [`HEAD_DIMS`].
        head_dim: u32,
        /// Query heads to a kv head, 1 to [`MAX_GROUP`].
        group: u32,
    },
    /// Attention of few query rows, split over the context.
    AttentionDecode {
        /// Storage of the cache.
        kv: Kv,
        /// One of [`HEAD_DIMS`].
        head_dim: u32,
        /// Query heads to a kv head, 1 to [`MAX_GROUP`].
        group: u32,
    },
    /// Joins the splits of [`Variant::AttentionDecode`].
    AttentionMerge {
        /// One of [`HEAD_DIMS`].
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
    /// Every variant that a host may ask for. The naga tests walk this list, so nothing unvalidated can ship.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut all = vec![Self::SiluMul, Self::Topk, Self::Sample, Self::Penalty, Self::FillRandom];
        all.extend(Probe::variants());
        all.extend(Peak::ALL.map(Self::Peak));
        for weights in Weights::ALL {
            all.push(Self::Embed { weights });
            all.push(Self::Matmul { weights });
            for n_tokens in MATVEC_TOKENS {
                for workgroup in MATVEC_WORKGROUPS {
                    all.extend(Reduce::both(workgroup).map(|reduce| Self::Matvec { weights, reduce, n_tokens }));
                }
            }
            for workgroup in MATVEC_WIDE_WORKGROUPS {
                let wide = |reduce| Self::Matvec {
                    weights,
                    reduce,
                    n_tokens: 1,
                };
                all.extend(Reduce::both(workgroup).map(wide));
            }
        }
        for reduce in Reduce::both(256) {
            all.push(Self::RmsNorm { reduce });
            all.push(Self::Argmax { reduce });
        }
        for head_dim in HEAD_DIMS {
            all.push(Self::AttentionMerge { head_dim });
            for kv in Kv::ALL {
                all.push(Self::Rope { kv, head_dim });
                for group in 1..=MAX_GROUP {
                    all.push(Self::AttentionPrefill { kv, head_dim, group });
                    all.push(Self::AttentionDecode { kv, head_dim, group });
                }
            }
        }
        all
    }

    /// The kernel's stem: the name of its file in every folder.
    #[must_use]
    pub const fn stem(&self) -> &'static str {
        match self {
            Self::Embed { .. } => "embed",
            Self::RmsNorm { .. } => "rms_norm",
            Self::Matvec { .. } => "matvec",
            Self::Matmul { .. } => "matmul",
            Self::Rope { .. } => "rope",
            Self::AttentionPrefill { .. } => "attention_prefill",
            Self::AttentionDecode { .. } => "attention_decode",
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

    /// Whether the text needs the f16 type.
    #[must_use]
    pub const fn needs_f16(&self) -> bool {
        match self {
            Self::Embed { weights } | Self::Matvec { weights, .. } | Self::Matmul { weights } => matches!(weights, Weights::F16),
            Self::Rope { kv, .. } | Self::AttentionPrefill { kv, .. } | Self::AttentionDecode { kv, .. } => matches!(kv, Kv::F16),
            Self::Probe(probe) => probe.needs_f16(),
            Self::Peak(peak) => matches!(peak, Peak::F16 | Peak::Coop { .. }),
            _ => false,
        }
    }

    /// Whether the text uses cooperative matrices.
    #[must_use]
    pub const fn needs_coop(&self) -> bool {
        matches!(self, Self::Peak(Peak::Coop { .. }) | Self::Probe(Probe::Coop(_)))
    }

    /// Whether the text uses subgroup operations.
    #[must_use]
    pub const fn needs_subgroups(&self) -> bool {
        match self {
            Self::RmsNorm { reduce } | Self::Matvec { reduce, .. } | Self::Argmax { reduce } => reduce.subgroup,
            Self::Probe(probe) => matches!(probe, Probe::Subgroup { .. }),
            _ => false,
        }
    }

    /// Names of the shared parts that go before the kernel, in order.
    pub(crate) fn parts(&self) -> Vec<&'static str> {
        let weight = |weights| match weights {
            Weights::F32 => "weight_f32",
            Weights::F16 => "weight_f16",
            Weights::F16Packed => "weight_f16_packed",
            Weights::Bf16 => "weight_bf16",
        };
        let kv_part = |kv| match kv {
            Kv::F32 => "kv_f32",
            Kv::F16 => "kv_f16",
        };
        let sum = |reduce: Reduce| if reduce.subgroup { "reduce_subgroup" } else { "reduce_workgroup" };
        match *self {
            Self::Embed { weights } => vec![weight(weights), "row"],
            Self::RmsNorm { reduce } => vec![sum(reduce)],
            Self::Matvec { weights, reduce, .. } => vec![weight(weights), sum(reduce)],
            Self::Matmul { weights } => vec![weight(weights)],
            Self::Rope { kv, .. } | Self::AttentionPrefill { kv, .. } | Self::AttentionDecode { kv, .. } => {
                vec![kv_part(kv), "row", "kv_index"]
            }
            Self::Argmax { reduce } => vec![if reduce.subgroup { "best_subgroup" } else { "best_workgroup" }],
            Self::Probe(probe) => probe.parts(),
            Self::Topk => vec!["order"],
            Self::Sample => vec!["row", "order", "u64"],
            Self::Penalty => vec!["row"],
            Self::AttentionMerge { .. } | Self::SiluMul | Self::FillRandom | Self::Peak(_) => vec![],
        }
    }

    /// The constants that the header defines.
    pub(crate) fn consts(&self) -> Vec<(&'static str, u32)> {
        match *self {
            Self::RmsNorm { reduce } => vec![("WORKGROUP", reduce.workgroup), ("N_SUMS", 1)],
            Self::Argmax { reduce } => vec![("WORKGROUP", reduce.workgroup)],
            Self::Matvec { reduce, n_tokens, .. } => {
                let rows = matvec_rows(n_tokens);
                vec![
                    ("WORKGROUP", reduce.workgroup),
                    ("N_ROWS", rows),
                    ("N_TOKENS", n_tokens),
                    ("N_SUMS", rows * n_tokens),
                ]
            }
            Self::Rope { head_dim, .. } => vec![("HEAD_DIM", head_dim), ("KV_BLOCK", KV_BLOCK)],
            Self::AttentionPrefill { head_dim, group, .. } | Self::AttentionDecode { head_dim, group, .. } => {
                vec![("HEAD_DIM", head_dim), ("KV_BLOCK", KV_BLOCK), ("GROUP", group)]
            }
            Self::AttentionMerge { head_dim } => vec![("HEAD_DIM", head_dim), ("MAX_SPLITS", MAX_SPLITS)],
            Self::Probe(probe) => probe.consts(),
            Self::Peak(Peak::Coop { workgroup }) => vec![("WORKGROUP", workgroup)],
            _ => vec![],
        }
    }
}
