//! Attention, split and tiled: group sizes, contexts around tile edges, windows, shuffled blocks, several sequences in one batch.
//!
//! Cache entries that no row may see are NaN, so a key too many is seen at once; entries of a tile that a window cuts in the middle are
//! finite, since kernels multiply them by zero.

use half::f16;
use qwgpu_runtime::{
    Elem, Gpu, KV_BLOCK, Pass, Tensor,
    kernels::{
        attention::{self, Attention, Plan, Query, Scratch},
        attention_prefill,
        rope::{KvLayer, Paging},
    },
};

use super::{Checked, rope::poisoned_cache};
use crate::{
    Case, Failure, Guarded,
    compare::{self, EPS32, Expected, TINY},
    fill, padded,
};

const BLOCK: usize = KV_BLOCK as usize;
/// Keys of a kernel's tile: what a window may cut.
const TILE: usize = 32;
/// Heads that are compared at most, spread evenly over rows and heads.
const MAX_HEADS: usize = 160;

/// What is compiled even where compiling is slow: cache type, head size, group size.
const QUICK: [(Elem, usize, usize); 7] = [
    (Elem::F32, 64, 1),
    (Elem::F32, 64, 2),
    (Elem::F32, 64, 7),
    (Elem::F32, 64, 16),
    (Elem::F32, 128, 8),
    (Elem::F16, 64, 7),
    (Elem::F16, 128, 8),
];

/// Rows of one sequence in the batch: positions `first .. first + n`.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    slot: usize,
    first: usize,
    n: usize,
}

#[derive(Clone, Debug)]
struct Shape {
    kv: Elem,
    head_dim: usize,
    group: usize,
    n_kv_heads: usize,
    /// `None`: the tiled kernel.
    n_splits: Option<usize>,
    window: Option<usize>,
    batch: Vec<Stretch>,
    /// Queries are multiplied by this: 1 keeps the softmax flat, 40 makes it choose.
    sharpness: f32,
}

impl Shape {
    fn new(head_dim: usize, group: usize, n_splits: Option<usize>, batch: &[(usize, usize, usize)]) -> Self {
        let batch = batch.iter().map(|&(slot, first, n)| Stretch { slot, first, n }).collect();
        Self {
            kv: Elem::F32,
            head_dim,
            group,
            n_kv_heads: 2,
            n_splits,
            window: None,
            batch,
            sharpness: 4.0,
        }
    }

    fn case(self) -> Case {
        let (stem, how) = match self.n_splits {
            Some(n) => ("attention_decode", format!("{n} splits")),
            None => ("attention_prefill", "tiled".to_owned()),
        };
        let batch: Vec<String> = self.batch.iter().map(|s| format!("{}:{}+{}", s.slot, s.first, s.n)).collect();
        let window = self.window.map_or(String::new(), |w| format!(", window {w}"));
        let Self {
            kv,
            head_dim,
            group,
            n_kv_heads,
            sharpness,
            ..
        } = self;
        let name = format!(
            "{how} {kv:?} {n_kv_heads} x {group} heads of {head_dim}, rows {}{window}, x{sharpness}",
            batch.join(" ")
        );
        let quick = QUICK.contains(&(kv, head_dim, group));
        Case::new(stem, name, move |gpu| check(gpu, &self))
            .with_f16(kv == Elem::F16)
            .quick(quick)
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut shapes = Vec::new();
    for group in 1..=16 {
        // every group size, each in both kernels
        shapes.push(Shape::new(64, group, Some(3), &[(0, 99, 1), (2, 40, 1)]));
        shapes.push(Shape::new(64, group, None, &[(0, 0, 19), (1, 50, 18)]));
    }
    for group in [1, 5, 7, 8, 16] {
        shapes.push(Shape::new(128, group, Some(2), &[(1, 129, 2)]));
        shapes.push(Shape::new(128, group, None, &[(1, 3, 67)]));
    }
    for n_keys in [1, 2, 31, 32, 33, 63, 64, 65, 128, 300] {
        shapes.push(Shape::new(64, 7, Some(4), &[(0, n_keys - 1, 1)]));
        shapes.push(Shape::new(64, 7, None, &[(0, 0, n_keys)]));
        for window in [1, 5, 32, 33, 100] {
            shapes.push(Shape {
                window: Some(window),
                ..Shape::new(64, 2, Some(3), &[(0, n_keys - 1, 1)])
            });
        }
    }
    for window in [1, 5, 31, 32, 33, 64, 100, 1000] {
        shapes.push(Shape {
            window: Some(window),
            ..Shape::new(64, 7, None, &[(2, 0, 150)])
        });
        shapes.push(Shape {
            window: Some(window),
            ..Shape::new(64, 2, None, &[(0, 77, 70), (1, 200, 5)])
        });
    }
    for n_splits in [1, 2, 7, 16, 63, 64] {
        shapes.push(Shape::new(64, 7, Some(n_splits), &[(0, 0, 1), (1, 299, 1), (2, 150, 3)]));
        shapes.push(Shape {
            window: Some(70),
            ..Shape::new(64, 7, Some(n_splits), &[(0, 0, 1), (1, 299, 1), (2, 150, 3)])
        });
    }
    // many sequences in one batch, tiles cut short by each
    shapes.push(Shape::new(
        64,
        8,
        None,
        &[(0, 0, 1), (1, 70, 2), (2, 5, 9), (3, 64, 64), (4, 31, 1)],
    ));
    shapes.push(Shape::new(
        64,
        7,
        Some(5),
        &[(4, 0, 1), (3, 64, 1), (2, 255, 2), (1, 31, 3), (0, 32, 1)],
    ));
    shapes.push(Shape {
        n_kv_heads: 1,
        ..Shape::new(128, 8, Some(8), &[(0, 280, 8)])
    });
    for (group, sharpness) in [(7, 0.0), (7, 40.0), (2, 300.0)] {
        shapes.push(Shape {
            sharpness,
            ..Shape::new(64, group, Some(6), &[(0, 250, 2)])
        });
        shapes.push(Shape {
            sharpness,
            ..Shape::new(64, group, None, &[(0, 200, 40)])
        });
    }
    let half: Vec<Shape> = shapes
        .iter()
        .step_by(4)
        .map(|shape| Shape {
            kv: Elem::F16,
            ..shape.clone()
        })
        .collect();
    shapes.into_iter().chain(half).map(Shape::case).collect()
}

/// Everything on the host, in the order that the kernels' documentation gives.
struct Data {
    q: Vec<f32>,
    /// (slot, position) of each row.
    places: Vec<(usize, usize)>,
    blocks: Vec<u32>,
    blocks_per_slot: usize,
}

impl Data {
    fn new(s: &Shape) -> Self {
        let places: Vec<(usize, usize)> = s
            .batch
            .iter()
            .flat_map(|b| (b.first..b.first + b.n).map(|pos| (b.slot, pos)))
            .collect();
        let n_slots = places.iter().map(|p| p.0).max().unwrap_or(0) + 1;
        let blocks_per_slot = places.iter().map(|p| p.1 / BLOCK).max().unwrap_or(0) + 2;
        let cols = s.n_kv_heads * s.group * s.head_dim;
        let q = (0..places.len() * cols).map(|i| fill::at(22, i as u64) * s.sharpness).collect();
        Self {
            q,
            places,
            blocks: fill::permutation(23, n_slots * blocks_per_slot),
            blocks_per_slot,
        }
    }

    fn first_seen(s: &Shape, pos: usize) -> usize {
        s.window.map_or(0, |window| (pos + 1).saturating_sub(window))
    }

    /// Positions of a stretch that hold numbers: up to the last row, from the tile on that the first row's window begins in.
    fn filled(s: &Shape, stretch: &Stretch) -> std::ops::Range<usize> {
        Self::first_seen(s, stretch.first) / TILE * TILE..stretch.first + stretch.n
    }

    fn upload(&self, gpu: &Gpu, s: &Shape) -> Result<KvLayer, Failure> {
        let n_blocks = self.blocks.len();
        let cache = poisoned_cache(gpu, n_blocks, s.n_kv_heads, s.head_dim, s.kv)?;
        for (seed, side) in [(24, &cache.k), (25, &cache.v)] {
            let mut values = vec![f32::NAN; n_blocks * s.n_kv_heads * BLOCK * s.head_dim];
            for stretch in &s.batch {
                for pos in Self::filled(s, stretch) {
                    let block = self.blocks[stretch.slot * self.blocks_per_slot + pos / BLOCK] as usize;
                    for h in 0..s.n_kv_heads {
                        let at = ((block * s.n_kv_heads + h) * BLOCK + pos % BLOCK) * s.head_dim;
                        values[at..at + s.head_dim].copy_from_slice(&entry(s, seed, stretch.slot, pos, h));
                    }
                }
            }
            match s.kv {
                Elem::F16 => side.write(gpu, &values.iter().map(|&x| f16::from_f32(x)).collect::<Vec<_>>()),
                _ => side.write(gpu, &values),
            }
        }
        Ok(cache)
    }
}

/// One key or value, as the cache's type holds it.
fn entry(s: &Shape, seed: u64, slot: usize, pos: usize, kv_head: usize) -> Vec<f32> {
    let i = ((slot * 4096 + pos) * 64 + kv_head) * 128;
    let values = (0..s.head_dim).map(|d| fill::at(seed, (i + d) as u64));
    values
        .map(|x| if s.kv == Elem::F16 { f16::from_f32(x).to_f32() } else { x })
        .collect()
}

fn check(gpu: &Gpu, s: &Shape) -> Checked {
    let data = Data::new(s);
    let n_heads = s.n_kv_heads * s.group;
    let (n_tokens, cols) = (data.places.len(), n_heads * s.head_dim);
    let rows: Vec<u32> = data
        .places
        .iter()
        .flat_map(|&(slot, pos)| [9, slot as u32, pos as u32, 77])
        .collect();
    let scale = 1.0 / (s.head_dim as f32).sqrt();

    let q = padded(gpu, n_tokens, cols, &data.q)?;
    let cache = data.upload(gpu, s)?;
    let rows = Tensor::from_u32(gpu, "rows", n_tokens, 4, &rows)?;
    let n_slots = data.blocks.len() / data.blocks_per_slot;
    let block_table = Tensor::from_u32(gpu, "block table", n_slots, data.blocks_per_slot, &data.blocks)?;
    let out = Guarded::new(gpu, n_tokens, cols, Elem::F32)?;
    let scratch = Scratch::new(gpu, n_tokens, n_heads, s.head_dim)?;
    let plan = match s.n_splits {
        Some(n) => Plan::Split(n),
        None => {
            let slots: Vec<u32> = data.places.iter().map(|p| p.0 as u32).collect();
            let tiles = attention_prefill::tiles(&slots, s.group);
            Plan::Tiled(Tensor::from_u32(gpu, "tiles", tiles.len(), 2, tiles.as_flattened())?)
        }
    };
    let kernel = Attention::new(gpu, s.kv, s.head_dim, s.group)?;
    let paging = Paging {
        rows: &rows,
        block_table: &block_table,
    };
    let mut pass = Pass::new(gpu);
    kernel.dispatch(
        &mut pass,
        &Query {
            q: &q,
            cache: &cache,
            paging,
            window: s.window,
            scale,
        },
        &plan,
        &scratch,
        out.out(),
    );
    pass.submit();

    let got = out.read_f32(gpu)?;
    if let Some(i) = got.iter().position(|x| !x.is_finite()) {
        return Err(Failure::new(format!(
            "row {}, head {}: {} at {}",
            i / cols,
            i % cols / s.head_dim,
            got[i],
            i % s.head_dim
        )));
    }
    let all = n_tokens * n_heads;
    let mut outcome = crate::Outcome::default();
    for i in 0..all.min(MAX_HEADS) {
        let at = if all <= MAX_HEADS { i } else { i * (all - 1) / (MAX_HEADS - 1) };
        let (t, h) = (at / n_heads, at % n_heads);
        let head = at * s.head_dim..(at + 1) * s.head_dim;
        let what = format!("row {t}, head {h}");
        outcome = outcome.and(compare::elements(
            &what,
            s.head_dim,
            &got[head.clone()],
            expected(s, &data, t, h, &data.q[head], scale),
        )?);
    }
    Ok(outcome)
}

/// One head of one row, with the bound that its scores' rounding and the exponentials' explain.
fn expected(s: &Shape, data: &Data, t: usize, h: usize, q: &[f32], scale: f32) -> Vec<Expected> {
    let (slot, pos) = data.places[t];
    let seen = Data::first_seen(s, pos)..pos + 1;
    let entries = |seed| -> Vec<f32> { seen.clone().flat_map(|pos| entry(s, seed, slot, pos, h / s.group)).collect() };
    let (k, v) = (entries(24), entries(25));
    let values = attention::reference(q, &k, &v, scale);
    let products = |key: &[f32]| q.iter().zip(key).map(|(&a, &b)| f64::from(a) * f64::from(b)).collect::<Vec<_>>();
    let scores: Vec<(f64, f64)> = k
        .chunks_exact(s.head_dim)
        .map(products)
        .map(|p| {
            (
                p.iter().sum::<f64>() * f64::from(scale),
                p.iter().map(|x| x.abs()).sum::<f64>() * f64::from(scale),
            )
        })
        .collect();
    let max = scores.iter().map(|score| score.0).fold(f64::MIN, f64::max);
    let (mut sum, mut doubt) = (0.0, 0.0);
    // weight and relative error of each key: its score's and the maximum's rounding, and the exponential's
    let weights: Vec<(f64, f64)> = scores
        .iter()
        .map(|&(score, magnitude)| {
            let p = (score - max).exp();
            let error = compare::sum_bound(s.head_dim, magnitude) + 2.0 * EPS32 * max.abs() + compare::exp_error(score - max);
            sum += p;
            doubt += p * error;
            (p, error)
        })
        .collect();
    let n = seen.len();
    (0..s.head_dim)
        .map(|d| {
            let terms = weights.iter().zip(v.chunks_exact(s.head_dim));
            let (magnitude, error) = terms.fold((0.0, 0.0), |(m, e), (w, v)| {
                let x = w.0 * f64::from(v[d]).abs();
                (m + x, e + x * w.1)
            });
            let bound = (error + values[d].abs() * doubt) / sum + 2.0 * compare::sum_bound(n, magnitude / sum) + TINY;
            Expected { value: values[d], bound }
        })
        .collect()
}
