//! What varies from one adapter and model to the next, as types: no strings, no text macros.

use crate::{CoopTile, Probe};

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
    /// Signed bytes in blocks of 32 with an f16 scale, unpacked from u32: any adapter.
    Q8,
    /// Four-bit integers in blocks of 32 with an f16 scale, unpacked from u32: any adapter.
    Q4,
}

/// Where quantised weights have their scales: far behind what any kernel binds of its own.
pub const SCALES_BINDING: u32 = 15;

impl Weights {
    /// Every format.
    pub const ALL: [Self; 6] = [Self::F32, Self::F16, Self::F16Packed, Self::Bf16, Self::Q8, Self::Q4];

    /// Whether scales lie at [`SCALES_BINDING`].
    #[must_use]
    pub const fn has_scales(self) -> bool {
        matches!(self, Self::Q8 | Self::Q4)
    }
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

/// How the subgroups of a workgroup share out a tile of cooperative matrices: `side` by `side` of them, 2 by 2 matrices each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CoopGrid {
    /// The matrices.
    pub tile: CoopTile,
    /// Invocations of a subgroup, 32 or 64: the same for all on the adapter.
    pub subgroup: u32,
    /// Subgroups in each direction, 2 or 4.
    pub side: u32,
}

impl CoopGrid {
    /// Every grid: f16 operands, the only ones that weights are turned into.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let kinds = [(CoopTile::M16F16, 32), (CoopTile::M16F16, 64), (CoopTile::M8F16, 32)];
        let grids = kinds.map(|(tile, subgroup)| [2, 4].map(|side| Self { tile, subgroup, side }));
        grids.concat()
    }

    /// Invocations of a workgroup.
    #[must_use]
    pub const fn workgroup(self) -> u32 {
        self.side * self.side * self.subgroup
    }

    /// Rows and columns of the output that a workgroup owns.
    #[must_use]
    pub const fn outputs(self) -> u32 {
        self.side * 2 * self.tile.size()
    }

    /// Bytes of workgroup memory of [`Variant::MatmulCoop`]: two slabs of 64 columns and 8 of padding in f16, and a matrix of sums for
    /// every second subgroup.
    #[must_use]
    pub const fn workgroup_memory(self) -> u32 {
        let sums = (self.side * self.side).div_ceil(2) * self.tile.size() * self.tile.size();
        2 * self.outputs() * (64 + 8) * 2 + sums * 4
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

/// Workgroups of products with one token, where more invocations to a row keep more loads under way.
pub const STEP_WORKGROUPS: [u32; 3] = [64, 128, 256];

/// Rows of the matrix that a workgroup may own in a product with one token: few rows make many workgroups of a small matrix. Kernels
/// that join two rows take no single one.
pub const STEP_ROWS: [u32; 3] = [1, 2, 4];

/// Invocations of a workgroup that the mat-vec with integer dot products is compiled for.
pub const MATVEC_DOT_WORKGROUPS: [u32; 2] = [32, 128];

/// Rows of the matrix that one of its workgroups owns.
pub const MATVEC_DOT_ROWS: [u32; 2] = [1, 4];

/// Rows of the matrix that one mat-vec workgroup owns at most, for a given token count: register use stays at 8 to 16 sums.
#[must_use]
pub const fn matvec_rows(n_tokens: u32) -> u32 {
    if n_tokens <= 2 { 4 } else { 2 }
}

/// What `shared/norm_rows.wgsl` asks of the header.
fn norm_rows(reduce: Reduce, rows: u32) -> Vec<(&'static str, u32)> {
    vec![("WORKGROUP", reduce.workgroup), ("N_ROWS", rows), ("N_SUMS", rows + 1)]
}

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
        /// How products are summed.
        reduce: Reduce,
        /// One of [`MATVEC_TOKENS`].
        n_tokens: u32,
        /// Rows of the matrix to a workgroup: [`matvec_rows`], or for one token one of [`STEP_ROWS`].
        rows: u32,
    },
    /// One token: RMS norm, q, k and v, rotation and KV-cache write.
    NormQkvRope {
        /// Storage of the matrix.
        weights: Weights,
        /// How products are summed.
        reduce: Reduce,
        /// Rows of the matrix to a workgroup, 2 or 4.
        rows: u32,
        /// Storage of the cache.
        kv: Kv,
        /// One of [`HEAD_DIMS`].
        head_dim: u32,
    },
    /// One token: RMS norm, gate and up, SwiGLU.
    NormGateUp {
        /// Storage of the matrix.
        weights: Weights,
        /// How products are summed.
        reduce: Reduce,
        /// Rows of the matrix to a workgroup, 2 or 4: half of them of gate.
        rows: u32,
    },
    /// Quantised matrix times one vector of bytes, with integer dot products.
    MatvecDot {
        /// [`Weights::Q8`] or [`Weights::Q4`].
        weights: Weights,
        /// How products are summed.
        reduce: Reduce,
        /// One of [`MATVEC_DOT_ROWS`].
        rows: u32,
    },
    /// Activations to bytes, for [`Variant::MatvecDot`].
    Quantize,
    /// Matrix times many vectors.
    Matmul {
        /// Storage of the matrix.
        weights: Weights,
    },
    /// Matrix times many vectors, on cooperative matrices.
    MatmulCoop {
        /// Storage of the matrix.
        weights: Weights,
        /// How a tile is shared out.
        grid: CoopGrid,
    },
    /// Rows to f16, each scaled by a power of two.
    ToF16,
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
    /// Attention of many query rows on cooperative matrices, with an f16 cache.
    AttentionPrefillCoop {
        /// One of [`HEAD_DIMS`].
        head_dim: u32,
        /// Query heads to a kv head, 1 to [`MAX_GROUP`].
        group: u32,
        /// Invocations of a subgroup, 32 or 64.
        subgroup: u32,
    },
    /// Attention of few query rows, split over the context.
    AttentionDecode {
        /// Storage of the cache.
        kv: Kv,
        /// One of [`HEAD_DIMS`].
        head_dim: u32,
        /// Query heads to a kv head, 1 to [`MAX_GROUP`].
        group: u32,
        /// Whether loops have constant bounds: for GPUs.
        unrolled: bool,
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
        let mut all = vec![
            Self::SiluMul,
            Self::Topk,
            Self::Sample,
            Self::Penalty,
            Self::FillRandom,
            Self::ToF16,
            Self::Quantize,
        ];
        all.extend(Probe::variants());
        all.extend(Peak::ALL.map(Self::Peak));
        for weights in Weights::ALL.into_iter().filter(|weights| weights.has_scales()) {
            for (workgroup, rows) in MATVEC_DOT_WORKGROUPS
                .into_iter()
                .flat_map(|w| MATVEC_DOT_ROWS.map(|rows| (w, rows)))
            {
                all.extend(Reduce::both(workgroup).map(|reduce| Self::MatvecDot { weights, reduce, rows }));
            }
        }
        for weights in Weights::ALL {
            all.push(Self::Embed { weights });
            all.push(Self::EmbedStep { weights });
            all.push(Self::Matmul { weights });
            all.extend(CoopGrid::all().into_iter().map(|grid| Self::MatmulCoop { weights, grid }));
            for n_tokens in MATVEC_TOKENS {
                for workgroup in MATVEC_WORKGROUPS {
                    let matvec = |reduce| Self::Matvec {
                        weights,
                        reduce,
                        n_tokens,
                        rows: matvec_rows(n_tokens),
                    };
                    all.extend(Reduce::both(workgroup).map(matvec));
                }
            }
            for reduce in STEP_WORKGROUPS.into_iter().flat_map(Reduce::both) {
                for rows in STEP_ROWS {
                    all.extend(Self::of_a_step(weights, reduce, rows));
                }
            }
        }
        // the mat-vec of a step is among those of any token count once
        let mut seen = std::collections::HashSet::new();
        all.retain(|variant| seen.insert(*variant));
        for reduce in Reduce::both(256) {
            all.push(Self::RmsNorm { reduce });
            all.push(Self::Argmax { reduce });
        }
        for head_dim in HEAD_DIMS {
            all.push(Self::AttentionMerge { head_dim });
            for (group, subgroup) in (1..=MAX_GROUP).flat_map(|group| [32, 64].map(|subgroup| (group, subgroup))) {
                all.push(Self::AttentionPrefillCoop { head_dim, group, subgroup });
            }
            for kv in Kv::ALL {
                all.push(Self::Rope { kv, head_dim });
                for group in 1..=MAX_GROUP {
                    all.push(Self::AttentionPrefill { kv, head_dim, group });
                    all.extend([false, true].map(|unrolled| Self::AttentionDecode {
                        kv,
                        head_dim,
                        group,
                        unrolled,
                    }));
                }
            }
        }
        all
    }

    /// The products of a one-token step in one form.
    fn of_a_step(weights: Weights, reduce: Reduce, rows: u32) -> Vec<Self> {
        let mut all = vec![Self::Matvec {
            weights,
            reduce,
            n_tokens: 1,
            rows,
        }];
        if rows == 1 {
            return all; // there is no pair in one row
        }
        all.push(Self::NormGateUp { weights, reduce, rows });
        // f16 is unpacked by hand only where there is no f16 for the cache either
        let possible = |kv: &Kv| !matches!((weights, kv), (Weights::F16Packed, Kv::F16));
        for kv in Kv::ALL.into_iter().filter(possible) {
            all.extend(HEAD_DIMS.map(|head_dim| Self::NormQkvRope {
                weights,
                reduce,
                rows,
                kv,
                head_dim,
            }));
        }
        all
    }

    /// The kernel's stem: the name of its file in every folder.
    #[must_use]
    pub const fn stem(&self) -> &'static str {
        match self {
            Self::Embed { .. } => "embed",
            Self::EmbedStep { .. } => "embed_step",
            Self::RmsNorm { .. } => "rms_norm",
            Self::Matvec { .. } => "matvec",
            Self::NormQkvRope { .. } => "norm_qkv_rope",
            Self::NormGateUp { .. } => "norm_gate_up",
            Self::MatvecDot { .. } => "matvec_dot",
            Self::Quantize => "quantize",
            Self::Matmul { .. } => "matmul",
            Self::MatmulCoop { .. } => "matmul_coop",
            Self::ToF16 => "to_f16",
            Self::Rope { .. } => "rope",
            Self::AttentionPrefill { .. } => "attention_prefill",
            Self::AttentionPrefillCoop { .. } => "attention_prefill_coop",
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
            | Self::Matmul { weights }
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
            | Self::Matmul { weights } => matches!(weights, Weights::F16),
            Self::NormQkvRope { weights, kv, .. } => matches!(weights, Weights::F16) || matches!(kv, Kv::F16),
            Self::Rope { kv, .. } | Self::AttentionPrefill { kv, .. } | Self::AttentionDecode { kv, .. } => matches!(kv, Kv::F16),
            Self::Probe(probe) => probe.needs_f16(),
            Self::Peak(peak) => matches!(peak, Peak::F16 | Peak::Coop { .. }),
            Self::MatmulCoop { .. } | Self::AttentionPrefillCoop { .. } => true,
            _ => false,
        }
    }

    /// Whether the text uses cooperative matrices.
    #[must_use]
    pub const fn needs_coop(&self) -> bool {
        match self {
            Self::MatmulCoop { .. } | Self::AttentionPrefillCoop { .. } => true,
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
            | Self::Matvec { reduce, .. }
            | Self::MatvecDot { reduce, .. }
            | Self::NormQkvRope { reduce, .. }
            | Self::NormGateUp { reduce, .. }
            | Self::Argmax { reduce } => reduce.subgroup,
            Self::Probe(probe) => matches!(probe, Probe::Subgroup { .. }),
            Self::MatmulCoop { .. } | Self::AttentionPrefillCoop { .. } => true,
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
            Weights::Q8 => "weight_q8",
            Weights::Q4 => "weight_q4",
        };
        let kv_part = |kv| match kv {
            Kv::F32 => "kv_f32",
            Kv::F16 => "kv_f16",
        };
        let sum = |reduce: Reduce| if reduce.subgroup { "reduce_subgroup" } else { "reduce_workgroup" };
        match *self {
            Self::Embed { weights } => vec![weight(weights), "row"],
            Self::EmbedStep { weights } => vec![weight(weights), "row", "place"],
            Self::RmsNorm { reduce } => vec![sum(reduce)],
            Self::Matvec { weights, reduce, .. } => vec![weight(weights), sum(reduce)],
            Self::NormQkvRope { weights, reduce, kv, .. } => {
                vec![weight(weights), sum(reduce), "norm_rows", kv_part(kv), "place", "kv_index"]
            }
            Self::NormGateUp { weights, reduce, .. } => vec![weight(weights), sum(reduce), "norm_rows"],
            Self::MatvecDot { weights, reduce, .. } => {
                vec![if weights == Weights::Q8 { "dot_q8" } else { "dot_q4" }, sum(reduce)]
            }
            Self::Matmul { weights } => vec![weight(weights)],
            Self::MatmulCoop { weights, grid } => vec![weight(weights), grid.tile.part()],
            Self::Rope { kv, .. } | Self::AttentionPrefill { kv, .. } | Self::AttentionDecode { kv, .. } => {
                vec![kv_part(kv), "row", "kv_index"]
            }
            Self::AttentionPrefillCoop { .. } => vec!["kv_f16", "row", "kv_index", CoopTile::M16F16.part()],
            Self::Argmax { reduce } => vec![if reduce.subgroup { "best_subgroup" } else { "best_workgroup" }],
            Self::Probe(probe) => probe.parts(),
            Self::Topk => vec!["order"],
            Self::Sample => vec!["row", "order", "u64"],
            Self::Penalty => vec!["row"],
            Self::AttentionMerge { .. } | Self::SiluMul | Self::FillRandom | Self::ToF16 | Self::Quantize | Self::Peak(_) => vec![],
        }
    }

    /// The constants that the header defines.
    pub(crate) fn consts(&self) -> Vec<(&'static str, u32)> {
        match *self {
            Self::RmsNorm { reduce } => vec![("WORKGROUP", reduce.workgroup), ("N_SUMS", 1)],
            Self::Argmax { reduce } => vec![("WORKGROUP", reduce.workgroup)],
            Self::Matvec {
                reduce, n_tokens, rows, ..
            } => vec![
                ("WORKGROUP", reduce.workgroup),
                ("N_ROWS", rows),
                ("N_TOKENS", n_tokens),
                ("N_SUMS", rows * n_tokens),
            ],
            Self::NormQkvRope {
                reduce, rows, head_dim, ..
            } => {
                let mut all = norm_rows(reduce, rows);
                all.extend([("HEAD_DIM", head_dim), ("KV_BLOCK", KV_BLOCK)]);
                all
            }
            Self::MatmulCoop { grid, .. } => vec![("SUBGROUP", grid.subgroup), ("GRID_M", grid.side), ("GRID_N", grid.side)],
            Self::NormGateUp { reduce, rows, .. } => norm_rows(reduce, rows),
            Self::MatvecDot { reduce, rows, .. } => vec![("WORKGROUP", reduce.workgroup), ("N_ROWS", rows), ("N_SUMS", rows)],
            Self::Rope { head_dim, .. } => vec![("HEAD_DIM", head_dim), ("KV_BLOCK", KV_BLOCK)],
            Self::AttentionPrefill { head_dim, group, .. } => vec![("HEAD_DIM", head_dim), ("KV_BLOCK", KV_BLOCK), ("GROUP", group)],
            Self::AttentionDecode {
                head_dim, group, unrolled, ..
            } => vec![
                ("HEAD_DIM", head_dim),
                ("KV_BLOCK", KV_BLOCK),
                ("GROUP", group),
                ("UNROLLED", unrolled as u32),
            ],
            Self::AttentionPrefillCoop { head_dim, group, subgroup } => vec![
                ("SUBGROUP", subgroup),
                ("HEAD_DIM", head_dim),
                ("KV_BLOCK", KV_BLOCK),
                ("GROUP", group),
            ],
            Self::AttentionMerge { head_dim } => vec![("HEAD_DIM", head_dim), ("MAX_SPLITS", MAX_SPLITS)],
            Self::Probe(probe) => probe.consts(),
            Self::Peak(Peak::Coop { workgroup }) => vec![("WORKGROUP", workgroup)],
            _ => vec![],
        }
    }
}
