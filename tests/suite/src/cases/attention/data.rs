//! Everything on the host, in the order that the kernels' documentation gives.

use half::f16;
use qwgpu_runtime::{Elem, Gpu, KV_BLOCK, kernels::rope::KvLayer};

use super::{
    expected,
    shape::{Look, Shape, Stretch},
};
use crate::{Failure, cases::rope::poisoned_cache, compare::Expected, fill};

const BLOCK: usize = KV_BLOCK as usize;
/// Keys of a kernel's tile: what a window may cut.
const TILE: usize = 32;
/// Positions that have entries of their own; a sequence has fewer.
const MAX_POSITIONS: usize = 1 << 17;
/// By how much scores rise or fall over a context where they do.
const RISE: f32 = 8.0;
/// The queries' element that makes them.
const RISING_QUERY: f32 = 8.0;

pub(super) struct Data {
    pub(super) q: Vec<f32>,
    /// (slot, position) of each row.
    pub(super) places: Vec<(usize, usize)>,
    /// The block table, row by row.
    pub(super) blocks: Vec<u32>,
    pub(super) blocks_per_slot: usize,
    /// Keys and values in the cache's order and as its type holds them; NaN where nothing was written.
    k: Vec<f32>,
    v: Vec<f32>,
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Keys,
    Values,
}

impl Data {
    pub(super) fn new(s: &Shape) -> Self {
        let rows = |b: &Stretch| (b.first..b.first + b.n).map(|pos| (b.slot, pos)).collect::<Vec<_>>();
        let places: Vec<(usize, usize)> = s.batch.iter().flat_map(rows).collect();
        let n_slots = places.iter().map(|p| p.0).max().unwrap_or(0) + 1;
        let blocks_per_slot = places.iter().map(|p| p.1 / BLOCK).max().unwrap_or(0) + 2;
        let n = places.len() * s.n_heads() * s.head_dim;
        let mut data = Self {
            q: (0..n).map(|i| query(s, i)).collect(),
            places,
            blocks: fill::permutation(23, n_slots * blocks_per_slot),
            blocks_per_slot,
            k: Vec::new(),
            v: Vec::new(),
        };
        data.k = data.cache(s, Side::Keys);
        data.v = data.cache(s, Side::Values);
        data
    }

    /// Where one key or value lies in the cache.
    fn at(&self, s: &Shape, slot: usize, pos: usize, kv_head: usize) -> std::ops::Range<usize> {
        let block = self.blocks[slot * self.blocks_per_slot + pos / BLOCK] as usize;
        let at = ((block * s.n_kv_heads + kv_head) * BLOCK + pos % BLOCK) * s.head_dim;
        at..at + s.head_dim
    }

    fn cache(&self, s: &Shape, side: Side) -> Vec<f32> {
        let mut cache = vec![f32::NAN; self.blocks.len() * s.n_kv_heads * BLOCK * s.head_dim];
        for stretch in &s.batch {
            // up to the last row, from the tile on that the first row's window begins in
            for pos in s.first_seen(stretch.first) / TILE * TILE..stretch.first + stretch.n {
                for kv_head in 0..s.n_kv_heads {
                    let entry = &mut cache[self.at(s, stretch.slot, pos, kv_head)];
                    write_entry(s, side, stretch, pos, kv_head, entry);
                }
            }
        }
        cache
    }

    pub(super) fn upload(&self, gpu: &Gpu, s: &Shape) -> Result<KvLayer, Failure> {
        let cache = poisoned_cache(gpu, self.blocks.len(), s.n_kv_heads, s.head_dim, s.kv)?;
        for (values, tensor) in [(&self.k, &cache.k), (&self.v, &cache.v)] {
            match s.kv {
                Elem::F16 => tensor.write(gpu, &values.iter().map(|&x| f16::from_f32(x)).collect::<Vec<_>>()),
                _ => tensor.write(gpu, values),
            }
        }
        Ok(cache)
    }

    /// What head `h` of row `t` should be.
    pub(super) fn expected(&self, s: &Shape, t: usize, h: usize) -> Vec<Expected> {
        let (slot, pos) = self.places[t];
        let seen = s.first_seen(pos)..pos + 1;
        let gather = |side: &[f32]| -> Vec<f32> {
            let entries = seen.clone().map(|pos| self.at(s, slot, pos, h / s.group));
            entries.flat_map(|at| side[at].iter().copied()).collect()
        };
        let q = &self.q[(t * s.n_heads() + h) * s.head_dim..][..s.head_dim];
        expected::head(q, &gather(&self.k), &gather(&self.v), s.scale(), s.coop)
    }
}

/// Element `i` of the queries.
fn query(s: &Shape, i: usize) -> f32 {
    let (plain, d) = (fill::at(22, i as u64) * s.sharpness, i % s.head_dim);
    match s.look {
        Look::Rising | Look::Falling if d == 0 => RISING_QUERY,
        Look::Below => plain.abs(),
        Look::OutlierQueries if d == 5 && (i / s.head_dim).is_multiple_of(2) => 3e5,
        Look::TinyQueries => plain * 1e-39,
        _ => plain,
    }
}

/// One key or value, as the cache's type holds it.
fn write_entry(s: &Shape, side: Side, stretch: &Stretch, pos: usize, kv_head: usize, entry: &mut [f32]) {
    let seed = if side == Side::Keys { 24 } else { 25 };
    let own_pos = if side == Side::Keys && s.look == Look::SameKeys { 0 } else { pos };
    let place = ((stretch.slot * MAX_POSITIONS + own_pos) * 64 + kv_head) as u64;
    for (d, x) in (0..).zip(entry.iter_mut()) {
        *x = fill::at(seed, place * 128 + d);
    }
    let large = if s.kv == Elem::F16 { 6e4 } else { 3e5 };
    let marked = fill::hash(27, place).is_multiple_of(61);
    let place_in_context = pos as f32 / (stretch.first + stretch.n) as f32 - 0.5;
    let slope = RISE / RISING_QUERY / s.scale();
    match (side, s.look) {
        (Side::Keys, Look::Rising) => entry[0] = place_in_context * slope,
        (Side::Keys, Look::Falling) => entry[0] = -place_in_context * slope,
        (Side::Keys, Look::Below) => entry.iter_mut().for_each(|x| *x = -x.abs()),
        (Side::Keys, Look::OutlierKeys) if marked => entry[3] = large,
        (Side::Values, Look::OutlierValues) if marked => entry[fill::hash(28, place) as usize % s.head_dim] = large,
        (Side::Values, Look::TinyValues) => entry.iter_mut().for_each(|x| *x *= 1e-39),
        _ => (),
    }
    if s.kv == Elem::F16 {
        for x in entry {
            // denormals, which adapters may flush, are left out
            let held = f16::from_f32(*x);
            *x = if held.is_normal() { held.to_f32() } else { 0.0 };
        }
    }
}
