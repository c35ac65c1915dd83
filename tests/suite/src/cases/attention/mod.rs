//! Attention, split and tiled: group sizes, contexts around tile edges, windows, shuffled blocks, several sequences in one batch.
//!
//! Cache entries that no row may see are NaN, so a key too many is seen at once; entries of a tile that a window cuts in the middle are
//! finite, since kernels multiply them by zero.

mod data; // queries, cache and block table
mod expected; // the reference with its bounds
mod shape; // what distinguishes one case from another
mod shapes; // the list

use qwgpu_runtime::{
    Elem, Gpu, Pass, Tensor,
    kernels::{
        attention::Query,
        attention_decode::AttentionDecode,
        attention_decode_coop::AttentionDecodeCoop,
        attention_merge::AttentionMerge,
        attention_prefill::{self, AttentionPrefill},
        attention_prefill_coop::{self, AttentionPrefillCoop},
        attention_short::AttentionShort,
        rope::Paging,
    },
};

use self::{data::Data, shape::Shape};
use super::Checked;
use crate::{Case, Failure, Guarded, Outcome, Scale, compare, fill, padded};

/// Products of a case up to which every head is compared.
const ALL_PRODUCTS: usize = 1 << 23;
/// What a split without keys reports as its maximum.
const LOWEST: f32 = -3.0e38;
/// Outputs that are compared of a larger one, spread over rows and heads.
const SAMPLE: usize = 4096;

pub(super) fn cases(scale: Scale) -> Vec<Case> {
    shapes::all(scale).into_iter().map(Shape::case).collect()
}

fn check(gpu: &Gpu, s: &Shape) -> Checked {
    let data = Data::new(s);
    let got = run(gpu, s, &data)?;
    if let Some(i) = got.iter().position(|x| !x.is_finite()) {
        let (cols, d) = (s.n_heads() * s.head_dim, i % s.head_dim);
        let (t, h) = (i / cols, i % cols / s.head_dim);
        return Err(Failure::new(format!("row {t}, head {h}: {} at {d}", got[i])));
    }
    let mut outcome = Outcome::default();
    for at in compared(s, data.places.len() * s.n_heads()) {
        let (t, h) = (at / s.n_heads(), at % s.n_heads());
        let head = &got[at * s.head_dim..][..s.head_dim];
        let what = format!("row {t}, head {h}");
        outcome = outcome.and(compare::elements(&what, s.head_dim, head, data.expected(s, t, h))?);
    }
    Ok(outcome)
}

/// The heads that are compared out of `n`: all of a small case, else a sample with the first and the last.
fn compared(s: &Shape, n: usize) -> Vec<usize> {
    let n_sample = SAMPLE / s.head_dim;
    if s.products() <= ALL_PRODUCTS || n <= n_sample {
        return (0..n).collect();
    }
    // uneven steps, so that they do not fall on the same head of every row
    let place = |i: usize| match i * (n - 1) / (n_sample - 1) {
        0 => 0,
        at if at == n - 1 => at,
        at => at - fill::hash(26, at as u64) as usize % (n / n_sample),
    };
    (0..n_sample).map(place).collect()
}

/// What the adapter makes of it.
fn run(gpu: &Gpu, s: &Shape, data: &Data) -> Result<Vec<f32>, Failure> {
    let (n_tokens, cols) = (data.places.len(), s.n_heads() * s.head_dim);
    let q = padded(gpu, n_tokens, cols, &data.q)?;
    let cache = data.upload(gpu, s)?;
    let rows: Vec<u32> = data
        .places
        .iter()
        .flat_map(|&(slot, pos)| [9, slot as u32, pos as u32, 77])
        .collect();
    let rows = Tensor::from_u32(gpu, "rows", n_tokens, 4, &rows)?;
    let n_slots = data.blocks.len() / data.blocks_per_slot;
    let block_table = Tensor::from_u32(gpu, "block table", n_slots, data.blocks_per_slot, &data.blocks)?;
    let query = Query {
        q: &q,
        cache: &cache,
        paging: Paging {
            rows: &rows,
            block_table: &block_table,
        },
        window: s.window,
        scale: s.scale(),
    };
    let out = Guarded::new(gpu, n_tokens, cols, Elem::F32)?;
    let mut pass = Pass::new(gpu);
    // the kernels by themselves: each takes seconds to compile on CPU drivers
    let Some(n_splits) = s.n_splits else {
        let slots: Vec<u32> = data.places.iter().map(|p| p.0 as u32).collect();
        let tile_rows = if s.coop {
            attention_prefill_coop::TILE_ROWS
        } else {
            attention_prefill::TILE_ROWS
        };
        let tiles = attention_prefill::tiles(&slots, s.group, tile_rows);
        let tiles = Tensor::from_u32(gpu, "tiles", tiles.len(), 2, tiles.as_flattened())?;
        if s.coop {
            let kernel = AttentionPrefillCoop::new(gpu, s.kv, s.head_dim, s.group)?;
            let kernel = kernel.expect("cases say what they need");
            kernel.dispatch(&mut pass, &query, s.n_kv_heads, &tiles, out.out());
        } else {
            let kernel = AttentionPrefill::new(gpu, s.kv, s.head_dim, s.group)?;
            kernel.dispatch(&mut pass, &query, s.n_kv_heads, &tiles, out.out());
        }
        pass.submit();
        return out.read_f32(gpu);
    };
    if s.short {
        AttentionShort::new(gpu, s.kv, s.head_dim)?.dispatch(&mut pass, &query, s.n_kv_heads, s.group, out.out());
        pass.submit();
        return out.read_f32(gpu);
    }
    let n = n_tokens * s.n_heads() * n_splits;
    // a single split leaves the output itself
    let partials = (n_splits > 1).then(|| Guarded::new(gpu, n, s.head_dim, Elem::F32)).transpose()?;
    let into = partials.as_ref().unwrap_or(&out).out();
    let stats = Guarded::new(gpu, n, 2, Elem::F32)?;
    if s.coop {
        let kernel = AttentionDecodeCoop::new(gpu, s.kv, s.head_dim, s.group)?;
        let kernel = kernel.expect("cases say what they need");
        kernel.dispatch(&mut pass, &query, s.n_kv_heads, n_splits, into, stats.out());
    } else {
        let kernel = AttentionDecode::new(gpu, s.kv, s.head_dim, s.group)?;
        kernel.dispatch(&mut pass, &query, s.n_kv_heads, n_splits, into, stats.out());
    }
    if partials.is_some() {
        let merge = AttentionMerge::new(gpu, s.head_dim)?;
        merge.dispatch(&mut pass, into, stats.out(), n_splits, out.out());
    }
    pass.submit();
    if let Some(partials) = partials {
        partials.read_f32(gpu)?;
    }
    // a split without keys has to say so: with any other maximum it might outdo those that have some
    if let Some(stat) = stats
        .read_f32(gpu)?
        .chunks_exact(2)
        .find(|stat| stat[1] == 0.0 && stat[0] != LOWEST)
    {
        return Err(Failure::new(format!("a split without keys reports the maximum {}", stat[0])));
    }
    out.read_f32(gpu)
}
