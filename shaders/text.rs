//! What a variant's text is put together from: shared parts and constants.

use crate::{forms::*, probe::CoopTile, variant::Variant};

/// Tokens that a workgroup of the router has: its text names their sums.
const ROUTER_TOKENS: u32 = 8;

/// What `shared/norm_rows.wgsl` asks of the header.
fn norm_rows(split: Split, rows: u32) -> Vec<(&'static str, u32)> {
    vec![("WORKGROUP", split.workgroup(rows)), ("N_ROWS", rows), ("N_SUMS", rows + 1)]
}

/// What both forms of experts_down ask of it.
fn experts_down(workgroup: u32, rows: u32) -> Vec<(&'static str, u32)> {
    vec![
        ("WORKGROUP", workgroup),
        ("N_ROWS", rows),
        ("N_SUMS", rows),
        ("MAX_SLOTS", MAX_SLOTS),
    ]
}

impl Variant {
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
        let dot = |weights| if matches!(weights, Weights::Q8) { "dot_q8" } else { "dot_q4" };
        let kv_part = |kv| match kv {
            Kv::F32 => "kv_f32",
            Kv::F16 => "kv_f16",
        };
        let sum = |reduce: Reduce| if reduce.subgroup { "reduce_subgroup" } else { "reduce_workgroup" };
        let product = |weights, split, rest: &[&'static str]| {
            let mut all = vec![weight(weights)];
            match split {
                Split::Columns(reduce) => all.extend([sum(reduce), "by_columns"]),
                Split::Rows => all.push("by_rows"),
            }
            all.extend(rest);
            all
        };
        let team = |subgroup| if subgroup { "team_subgroup" } else { "team_workgroup" };
        let rows = |grouped| if grouped { "rows_grouped" } else { "rows_dense" };
        match *self {
            Self::Embed { weights } => vec![weight(weights), "row"],
            Self::EmbedStep { weights } => vec![weight(weights), "row", "place"],
            Self::RmsNorm { reduce } => vec![sum(reduce)],
            Self::Matvec { weights, split, .. } => product(weights, split, &[]),
            Self::NormQkvRope { weights, split, kv, .. } => {
                product(weights, split, &["norm_rows", kv_part(kv), "place", "kv_index", "qkv_rope"])
            }
            Self::NormGateUp { weights, split, .. } => product(weights, split, &["norm_rows"]),
            Self::Router => vec!["order", "choice"],
            Self::RouterDecode { reduce } => vec![sum(reduce), "order", "choice"],
            Self::ExpertsGateUp { weights, split, .. } => product(weights, split, &["norm_rows", "slots"]),
            Self::ExpertsDown { weights, split, .. } => product(weights, split, &["slots"]),
            Self::MatvecDot { weights, reduce, .. } => vec![dot(weights), sum(reduce)],
            Self::GateUpDot { weights, reduce, .. } => vec![dot(weights), sum(reduce), "bytes_apart", "dot_rows"],
            Self::QkvRopeDot { weights, reduce, kv, .. } => vec![
                dot(weights),
                sum(reduce),
                "bytes_joined",
                "dot_rows",
                kv_part(kv),
                "place",
                "kv_index",
                "qkv_rope",
            ],
            Self::NormQkvRopeDot { weights, subgroup, kv, .. } => vec![
                dot(weights),
                team(subgroup),
                "byte_scale",
                "norm_bytes",
                kv_part(kv),
                "place",
                "kv_index",
                "qkv_rope",
            ],
            Self::ExpertsGateUpDot { weights, reduce, .. } => vec![dot(weights), sum(reduce), "bytes_apart", "dot_rows", "slots"],
            Self::ExpertsDownDot { weights, reduce, .. } => vec![dot(weights), sum(reduce), "slots"],
            Self::NormQuantize { reduce } => vec![sum(reduce), "byte_scale"],
            Self::Quantize => vec!["byte_scale", "to_bytes"],
            Self::NormToF16 { reduce } => vec![sum(reduce), "f16_rows"],
            Self::ToF16 | Self::SiluMulToF16 => vec!["f16_rows"],
            Self::Matmul { weights, grouped } => vec![weight(weights), rows(grouped)],
            Self::MatmulCoop { weights, grid, grouped } => vec![weight(weights), grid.tile.part(), rows(grouped)],
            Self::Rope { kv, .. } | Self::AttentionPrefill { kv, .. } | Self::AttentionDecode { kv, .. } => {
                vec![kv_part(kv), "row", "kv_index"]
            }
            Self::AttentionShort { kv, subgroup, .. } => vec![kv_part(kv), "row", "kv_index", team(subgroup)],
            Self::GateUpBytes { weights, subgroup, .. } => {
                vec![dot(weights), team(subgroup), "slots", "byte_scale", "to_bytes", "norm_bytes"]
            }
            Self::AttentionPrefillCoop { .. } | Self::AttentionDecodeCoop { .. } => {
                vec!["kv_f16", "row", "kv_index", CoopTile::M16F16.part()]
            }
            Self::Argmax { reduce } => vec![if reduce.subgroup { "best_subgroup" } else { "best_workgroup" }],
            Self::Probe(probe) => probe.parts(),
            Self::Topk => vec!["order"],
            Self::Sample => vec!["row", "order", "u64"],
            Self::Penalty => vec!["row"],
            Self::AttentionMerge { .. } | Self::SiluMul | Self::FillRandom | Self::GroupExperts | Self::CombineExperts | Self::Peak(_) => {
                vec![]
            }
        }
    }

    /// The constants that the header defines.
    pub(crate) fn consts(&self) -> Vec<(&'static str, u32)> {
        match *self {
            Self::RmsNorm { reduce } | Self::NormToF16 { reduce } => {
                vec![("WORKGROUP", reduce.workgroup), ("N_SUMS", 1)]
            }
            Self::NormQuantize { reduce } => vec![("WORKGROUP", reduce.workgroup), ("N_SUMS", 1)],
            Self::Quantize => vec![("WORKGROUP", QUANTIZE_WORKGROUP), ("N_SLOTS", QUANTIZE_WORKGROUP)],
            Self::ToF16 | Self::SiluMulToF16 => vec![("WORKGROUP", 256)],
            Self::Argmax { reduce } => vec![("WORKGROUP", reduce.workgroup)],
            Self::Matvec { split, n_tokens, rows, .. } => vec![
                ("WORKGROUP", split.workgroup(rows)),
                ("N_ROWS", rows),
                ("N_TOKENS", n_tokens),
                ("N_SUMS", rows * n_tokens),
                ("TOKEN_TILES", matches!(split, Split::Rows) as u32),
            ],
            Self::NormQkvRope { split, rows, head_dim, .. } => {
                let mut all = norm_rows(split, rows);
                all.extend([("HEAD_DIM", head_dim), ("KV_BLOCK", KV_BLOCK)]);
                all
            }
            Self::Matmul { .. } => vec![("ROWS_BINDING", 2)],
            Self::MatmulCoop { grid, .. } => vec![
                ("SUBGROUP", grid.subgroup),
                ("GRID_M", grid.side),
                ("GRID_N", grid.side),
                ("ROWS_BINDING", 3),
            ],
            Self::NormGateUp { split, rows, .. } | Self::ExpertsGateUp { split, rows, .. } => norm_rows(split, rows),
            Self::Router => vec![("WORKGROUP", 256), ("MAX_EXPERTS", MAX_EXPERTS), ("TOKENS", ROUTER_TOKENS)],
            Self::RouterDecode { reduce } => vec![
                ("WORKGROUP", reduce.workgroup),
                ("N_SUMS", 2),
                ("MAX_EXPERTS", MAX_EXPERTS),
                ("TOKENS", 1),
            ],
            Self::ExpertsDown { split, rows, .. } => experts_down(split.workgroup(rows), rows),
            Self::ExpertsDownDot { reduce, rows, .. } => experts_down(reduce.workgroup, rows),
            Self::MatvecDot { reduce, rows, .. } | Self::GateUpDot { reduce, rows, .. } | Self::ExpertsGateUpDot { reduce, rows, .. } => {
                vec![("WORKGROUP", reduce.workgroup), ("N_ROWS", rows), ("N_SUMS", rows)]
            }
            Self::QkvRopeDot {
                reduce, rows, head_dim, ..
            } => vec![
                ("WORKGROUP", reduce.workgroup),
                ("N_ROWS", rows),
                ("N_SUMS", rows),
                ("HEAD_DIM", head_dim),
                ("KV_BLOCK", KV_BLOCK),
            ],
            Self::NormQkvRopeDot { head_dim, .. } => vec![
                ("WORKGROUP", 256),
                ("N_ROWS", NORM_QKV_DOT_ROWS),
                ("HEAD_DIM", head_dim),
                ("KV_BLOCK", KV_BLOCK),
            ],
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
            Self::AttentionPrefillCoop { head_dim, group, subgroup } | Self::AttentionDecodeCoop { head_dim, group, subgroup } => vec![
                ("SUBGROUP", subgroup),
                ("HEAD_DIM", head_dim),
                ("KV_BLOCK", KV_BLOCK),
                ("GROUP", group),
            ],
            Self::GateUpBytes { ahead, .. } => vec![("WORKGROUP", 256), ("N_SLOTS", 8), ("AHEAD", ahead as u32)],
            Self::AttentionShort { head_dim, .. } => vec![("WORKGROUP", 256), ("HEAD_DIM", head_dim), ("KV_BLOCK", KV_BLOCK)],
            Self::AttentionMerge { head_dim } => vec![("HEAD_DIM", head_dim), ("MAX_SPLITS", MAX_SPLITS)],
            Self::Probe(probe) => probe.consts(),
            Self::Peak(Peak::Coop { workgroup }) => vec![("WORKGROUP", workgroup)],
            _ => vec![],
        }
    }
}
