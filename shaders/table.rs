//! The table of all variants.

use crate::{forms::*, probe::Probe, variant::Variant};

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
            Self::SiluMulToF16,
            Self::Quantize,
            Self::GroupExperts,
            Self::CombineExperts,
            Self::Router,
        ];
        all.extend(Probe::variants());
        all.extend(Peak::ALL.map(Self::Peak));
        for weights in Weights::ALL.into_iter().filter(|weights| weights.has_scales()) {
            for ahead in [true, false] {
                all.extend([true, false].map(|subgroup| Self::GateUpBytes { weights, ahead, subgroup }));
            }
            all.extend(
                [true, false]
                    .into_iter()
                    .flat_map(|subgroup| Self::norm_qkv_rope_dot(weights, subgroup)),
            );
            all.extend(
                MATVEC_DOT_WORKGROUPS
                    .into_iter()
                    .flat_map(Reduce::both)
                    .flat_map(|reduce| Self::with_bytes(weights, reduce)),
            );
        }
        for weights in Weights::ALL {
            all.push(Self::Embed { weights });
            all.push(Self::EmbedStep { weights });
            for grouped in [false, true] {
                all.push(Self::Matmul { weights, grouped });
                let coop = |grid| Self::MatmulCoop { weights, grid, grouped };
                all.extend(CoopGrid::all().into_iter().map(coop));
            }
            for n_tokens in MATVEC_TOKENS {
                for workgroup in MATVEC_WORKGROUPS {
                    let matvec = |reduce| Self::Matvec {
                        weights,
                        split: Split::Columns(reduce),
                        n_tokens,
                        rows: matvec_rows(n_tokens),
                    };
                    all.extend(Reduce::both(workgroup).map(matvec));
                }
            }
            for share in STEP_SHARES {
                let of_a_step = |split| Self::of_a_step(weights, split, share.1);
                all.extend(Split::of_share(share).into_iter().flat_map(of_a_step));
            }
        }
        // the mat-vec of a step is among those of any token count once
        let mut seen = std::collections::HashSet::new();
        all.retain(|variant| seen.insert(*variant));
        for reduce in Reduce::both(256) {
            all.push(Self::RmsNorm { reduce });
            all.push(Self::Argmax { reduce });
            all.push(Self::RouterDecode { reduce });
            all.push(Self::NormQuantize { reduce });
            all.push(Self::NormToF16 { reduce });
        }
        for head_dim in HEAD_DIMS {
            all.push(Self::AttentionMerge { head_dim });
            for (group, subgroup) in (1..=MAX_GROUP).flat_map(|group| [32, 64].map(|subgroup| (group, subgroup))) {
                all.push(Self::AttentionPrefillCoop { head_dim, group, subgroup });
                all.push(Self::AttentionDecodeCoop { head_dim, group, subgroup });
            }
            for kv in Kv::ALL {
                all.push(Self::Rope { kv, head_dim });
                all.extend([true, false].map(|subgroup| Self::AttentionShort { kv, head_dim, subgroup }));
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

    /// For every cache and head size.
    fn norm_qkv_rope_dot(weights: Weights, subgroup: bool) -> Vec<Self> {
        let with_cache = |kv| {
            HEAD_DIMS.map(|head_dim| Self::NormQkvRopeDot {
                weights,
                subgroup,
                kv,
                head_dim,
            })
        };
        Kv::ALL.map(with_cache).concat()
    }

    /// The products with integer dot products, in every number of rows.
    fn with_bytes(weights: Weights, reduce: Reduce) -> Vec<Self> {
        let mut all = Vec::new();
        for rows in MATVEC_DOT_ROWS {
            all.push(Self::MatvecDot { weights, reduce, rows });
            all.push(Self::ExpertsDownDot { weights, reduce, rows });
        }
        for rows in PAIRS_DOT_ROWS {
            all.push(Self::GateUpDot { weights, reduce, rows });
            all.push(Self::ExpertsGateUpDot { weights, reduce, rows });
        }
        for rows in QKV_DOT_ROWS {
            for kv in Kv::ALL {
                all.extend(HEAD_DIMS.map(|head_dim| Self::QkvRopeDot {
                    weights,
                    reduce,
                    rows,
                    kv,
                    head_dim,
                }));
            }
        }
        all
    }

    /// The products of a one-token step in one form.
    fn of_a_step(weights: Weights, split: Split, rows: u32) -> Vec<Self> {
        let tokens = if split == Split::Rows { &MATVEC_TOKENS_BY_ROWS[..] } else { &[1] };
        let matvec = |&n_tokens| Self::Matvec {
            weights,
            split,
            n_tokens,
            rows,
        };
        let mut all: Vec<Self> = tokens.iter().map(matvec).collect();
        all.push(Self::ExpertsDown { weights, split, rows });
        if rows == 1 {
            return all; // there is no pair in one row
        }
        all.push(Self::NormGateUp { weights, split, rows });
        all.push(Self::ExpertsGateUp { weights, split, rows });
        // f16 is unpacked by hand only where there is no f16 for the cache either
        let possible = |kv: &Kv| !matches!((weights, kv), (Weights::F16Packed, Kv::F16));
        for kv in Kv::ALL.into_iter().filter(possible) {
            all.extend(HEAD_DIMS.map(|head_dim| Self::NormQkvRope {
                weights,
                split,
                rows,
                kv,
                head_dim,
            }));
        }
        all
    }
}
