//! Grouped-query attention over the paged cache: chooses the kernel, owns the scratch of the split one, and defines the result.
//!
//! `out[t, h] = softmax(scale * q[t, h] . k[j, h / group])_j v[j, h / group]` over the positions j that row t sees: j <= pos, and
//! j > pos - window where there is one (so the row itself counts).

use qwgpu_shaders::KV_BLOCK;

use super::{
    attention_decode::AttentionDecode,
    attention_decode_coop::{self, AttentionDecodeCoop},
    attention_merge::AttentionMerge,
    attention_prefill::{self, AttentionPrefill},
    attention_prefill_coop::{self, AttentionPrefillCoop},
    attention_short::AttentionShort,
    has_teams,
    rope::{KvLayer, Paging},
};
use crate::{Elem, Gpu, Pass, Result, Tensor};

/// Up to this many rows the split kernel runs; one workgroup owns one row there.
pub const MAX_SPLIT_ROWS: usize = 8;
/// Splits of the context at most: what a merge reads for each head.
pub const MAX_SPLITS: usize = qwgpu_shaders::MAX_SPLITS as usize;
/// Keys that a split has at least; fewer would not pay for what they add to the merge.
const MIN_KEYS: usize = 32;
/// Keys up to which one workgroup sees them all on GPUs: a merge takes as long as a few tiles of keys do.
const ONE_SPLIT_KEYS: usize = 128;
/// The same for the kernel that is made for it.
const SHORT_KEYS: usize = 384;
/// Workgroups that fill a large GPU (132 multiprocessors, two each); CPU drivers run one a core.
const ENOUGH_WORKGROUPS: usize = 264;
const ENOUGH_WORKGROUPS_CPU: usize = 8;

/// What attention reads.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Rotated queries `[n_tokens, n_heads * head_dim]`.
    pub q: &'a Tensor,
    /// The layer's keys and values.
    pub cache: &'a KvLayer,
    /// Rows and block table.
    pub paging: Paging<'a>,
    /// Positions that a row sees, its own included; `None`: all.
    pub window: Option<usize>,
    /// 1 / sqrt(head_dim) in Qwen2.
    pub scale: f32,
}

/// How a batch is cut, decided on the host once for all layers.
#[derive(Clone, Debug)]
pub enum Plan {
    /// Few rows: that many splits of the context, as [`Attention::n_splits`] says.
    Split(usize),
    /// Many rows: tiles as [`Attention::tiles`] makes them, u32 `[n_tiles, 2]`.
    Tiled(Tensor),
}

/// Both ways, compiled, and the scratch of the split one.
#[derive(Debug)]
pub struct Attention {
    prefill: Prefill,
    decode: Decode,
    short: Option<AttentionShort>,
    merge: AttentionMerge,
    head_dim: usize,
    group_size: usize,
}

#[derive(Debug)]
enum Prefill {
    Portable(AttentionPrefill),
    Coop(AttentionPrefillCoop),
}

#[derive(Debug)]
enum Decode {
    Portable(AttentionDecode),
    Coop(AttentionDecodeCoop),
}

/// Where the split kernel leaves its partial results.
#[derive(Debug)]
pub struct Scratch {
    partials: Tensor,
    stats: Tensor,
}

impl Scratch {
    /// Room for `max_rows` rows of `n_heads` heads at [`MAX_SPLITS`].
    ///
    /// # Errors
    /// When the adapter has no room.
    pub fn new(gpu: &Gpu, max_rows: usize, n_heads: usize, head_dim: usize) -> Result<Self> {
        let n = max_rows.min(MAX_SPLIT_ROWS) * n_heads * MAX_SPLITS;
        Ok(Self {
            partials: Tensor::new(gpu, "attention partials", n, head_dim, Elem::F32)?,
            stats: Tensor::new(gpu, "attention stats", n, 2, Elem::F32)?,
        })
    }
}

impl Attention {
    /// Compiles the kernels that the adapter takes.
    ///
    /// # Errors
    /// When a shader does not compile.
    pub fn new(gpu: &Gpu, kv: Elem, head_dim: usize, group_size: usize) -> Result<Self> {
        let prefill = match AttentionPrefillCoop::new(gpu, kv, head_dim, group_size)? {
            Some(coop) => Prefill::Coop(coop),
            None => Prefill::Portable(AttentionPrefill::new(gpu, kv, head_dim, group_size)?),
        };
        let decode = match AttentionDecodeCoop::new(gpu, kv, head_dim, group_size)? {
            Some(coop) => Decode::Coop(coop),
            None => Decode::Portable(AttentionDecode::new(gpu, kv, head_dim, group_size)?),
        };
        let short = has_teams(gpu.caps()).then(|| AttentionShort::new(gpu, kv, head_dim));
        Ok(Self {
            prefill,
            decode,
            short: short.transpose()?,
            merge: AttentionMerge::new(gpu, head_dim)?,
            head_dim,
            group_size,
        })
    }

    /// The same without matrix units and teams, whatever the adapter has.
    ///
    /// # Errors
    /// As [`Attention::new`].
    pub fn portable(gpu: &Gpu, kv: Elem, head_dim: usize, group_size: usize) -> Result<Self> {
        let prefill = Prefill::Portable(AttentionPrefill::new(gpu, kv, head_dim, group_size)?);
        let decode = Decode::Portable(AttentionDecode::new(gpu, kv, head_dim, group_size)?);
        Ok(Self {
            prefill,
            decode,
            short: None,
            merge: AttentionMerge::new(gpu, head_dim)?,
            head_dim,
            group_size,
        })
    }

    /// Splits for `n_rows` rows of which the longest sees `n_keys` keys. One needs no merge.
    #[must_use]
    pub fn n_splits(&self, gpu: &Gpu, n_rows: usize, n_kv_heads: usize, n_keys: usize) -> usize {
        let cpu = gpu.caps().cpu;
        let enough = if cpu { ENOUGH_WORKGROUPS_CPU } else { ENOUGH_WORKGROUPS };
        let most = (enough / (n_rows * n_kv_heads)).clamp(1, MAX_SPLITS);
        if self.short.is_some() && n_keys <= SHORT_KEYS {
            return 1;
        }
        match self.decode {
            // whole chunks to each, and as many to all as can be
            Decode::Coop(_) => {
                let chunks = n_keys.div_ceil(attention_decode_coop::CHUNK);
                chunks.div_ceil(chunks.div_ceil(most))
            }
            Decode::Portable(_) if !cpu && n_keys <= ONE_SPLIT_KEYS => 1,
            Decode::Portable(_) => most.min(n_keys.div_ceil(MIN_KEYS)).max(1),
        }
    }

    /// The tiles of a batch, for [`Plan::Tiled`]: `(first_row, n_rows)` each. `slots` gives each row's sequence.
    #[must_use]
    pub fn tiles(&self, slots: &[u32]) -> Vec<[u32; 2]> {
        let tile_rows = match self.prefill {
            Prefill::Portable(_) => attention_prefill::TILE_ROWS,
            Prefill::Coop(_) => attention_prefill_coop::TILE_ROWS,
        };
        attention_prefill::tiles(slots, self.group_size, tile_rows)
    }

    /// Whether so many rows go to the matrix units, with queries and exponentials rounded to f16.
    #[must_use]
    pub const fn has_coop(&self, n_rows: usize) -> bool {
        if n_rows <= MAX_SPLIT_ROWS {
            matches!(self.decode, Decode::Coop(_))
        } else {
            matches!(self.prefill, Prefill::Coop(_))
        }
    }

    /// Attention of every row of `query.q` into `out` `[n_tokens, n_heads * head_dim]`.
    ///
    /// # Panics
    /// When shapes do not fit.
    #[track_caller]
    pub fn dispatch(&self, pass: &mut Pass<'_>, query: &Query<'_>, plan: &Plan, scratch: &Scratch, out: &Tensor) {
        let n_kv_heads = query.cache.k.cols() / (KV_BLOCK as usize * self.head_dim);
        let (q, rows) = (query.q, query.paging.rows);
        assert_eq!(q.cols(), n_kv_heads * self.group_size * self.head_dim, "attention: columns of q");
        assert!(
            (out.rows(), out.cols()) == (q.rows(), q.cols()) && rows.rows() >= q.rows(),
            "attention: shape of out or rows"
        );
        match plan {
            Plan::Tiled(tiles) => match &self.prefill {
                Prefill::Portable(kernel) => kernel.dispatch(pass, query, n_kv_heads, tiles, out),
                Prefill::Coop(kernel) => kernel.dispatch(pass, query, n_kv_heads, tiles, out),
            },
            Plan::Split(1) if self.short.is_some() => {
                let kernel = self.short.as_ref().expect("asked for in the guard");
                kernel.dispatch(pass, query, n_kv_heads, self.group_size, out);
            }
            Plan::Split(n_splits) => {
                let n_partials = q.rows() * n_kv_heads * self.group_size * n_splits;
                assert!(
                    n_partials <= scratch.stats.rows(),
                    "attention: {n_partials} partials, room for {}",
                    scratch.stats.rows()
                );
                let partials = if *n_splits == 1 { out } else { &scratch.partials };
                match &self.decode {
                    Decode::Portable(kernel) => kernel.dispatch(pass, query, n_kv_heads, *n_splits, partials, &scratch.stats),
                    Decode::Coop(kernel) => kernel.dispatch(pass, query, n_kv_heads, *n_splits, partials, &scratch.stats),
                }
                if *n_splits > 1 {
                    self.merge.dispatch(pass, partials, &scratch.stats, *n_splits, out);
                }
            }
        }
    }
}

/// The definition, for one query head: `k` and `v` are `[n_keys, head_dim]` of its kv head, all of them seen.
#[must_use]
pub fn reference(q: &[f32], k: &[f32], v: &[f32], scale: f32) -> Vec<f64> {
    let head_dim = q.len();
    let score = |key: &[f32]| q.iter().zip(key).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>() * f64::from(scale);
    let scores: Vec<f64> = k.chunks_exact(head_dim).map(score).collect();
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let p: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
    let sum: f64 = p.iter().sum();
    (0..head_dim)
        .map(|d| {
            p.iter()
                .zip(v.chunks_exact(head_dim))
                .map(|(p, v)| p * f64::from(v[d]))
                .sum::<f64>()
                / sum
        })
        .collect()
}
