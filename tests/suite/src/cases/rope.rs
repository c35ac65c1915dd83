//! Rotary embedding and the cache write: q, k and v, and that nothing else in the cache is touched.

use half::f16;
use qwgpu_runtime::{
    Elem, Gpu, KV_BLOCK, Pass, Tensor,
    kernels::rope::{self, KvLayer, Paging, Rope},
};

use super::Checked;
use crate::{
    Case, Guarded, POISON,
    compare::{self, EPS16, EPS32, Expected, TINY, TINY16},
    fill,
    fill::Fill,
    padded,
};

const BLOCK: usize = KV_BLOCK as usize;
/// Table rows for single positions; see `rope.wgsl`.
const LOW: usize = 256;
const N_SLOTS: usize = 3;
const BLOCKS_PER_SLOT: usize = 4;
/// Blocks of the cache beyond those that sequences own: they stay poisoned.
const SPARE: usize = 1;

/// Heads of the models, Qwen1.5's without groups included, and odd ones: query heads, kv heads, head size.
const HEADS: [(usize, usize, usize); 14] = [
    (14, 2, 64),
    (16, 16, 64),
    (20, 20, 128),
    (12, 2, 128),
    (16, 2, 128),
    (28, 4, 128),
    (40, 8, 128),
    (64, 8, 128),
    (1, 1, 64),
    (5, 5, 64),
    (16, 1, 64),
    (1, 1, 128),
    (5, 5, 128),
    (9, 3, 128),
];

/// Base of the angles, and by how much YaRN stretches the context (1: not at all).
const ANGLES: [(f64, f64); 6] = [(1e4, 1.0), (1e6, 1.0), (1e6, 4.0), (5e5, 8.0), (1e7, 2.0), (1e4, 32.0)];

const FILLS: [Fill; 4] = [Fill::Zeros, Fill::Outlier, Fill::Denormal, Fill::Negative];

/// Where the rows of a batch stand.
#[derive(Clone, Copy, Debug)]
enum Batch {
    /// Block edges, table edges and the end of the longest context, in three sequences.
    Edges,
    /// One row: a step of decoding at this position.
    Step(u32),
    /// A chunk of a prompt: rows from this position on.
    Chunk(u32, u32),
}

/// Positions of single steps.
const STEPS: [u32; 12] = [0, 1, 63, 64, 127, 255, 256, 257, 8191, 32_767, 65_536, 131_071];

impl Batch {
    /// (slot, pos, rope_pos) of each row; positions in the cache stay within [`BLOCKS_PER_SLOT`] blocks.
    fn places(self) -> Vec<(u32, u32, u32)> {
        let cached = (BLOCKS_PER_SLOT * BLOCK) as u32;
        match self {
            Self::Edges => vec![
                (0, 0, 0),
                (2, 63, 63),
                (2, 64, 64),
                (1, 255, 255),
                (0, 200, 256),
                (1, 3, 257),
                (0, 130, 4095),
                (1, 127, 32_768),
                (2, 128, 131_071),
            ],
            Self::Step(pos) => vec![(pos % N_SLOTS as u32, pos % cached, pos)],
            Self::Chunk(first, n) => (0..n).map(|i| (1, (first + i) % cached, first + i)).collect(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    kv: Elem,
    n_heads: usize,
    n_kv_heads: usize,
    head_dim: usize,
    theta: f64,
    stretch: f64,
    fill: Fill,
    batch: Batch,
}

impl Shape {
    fn case(self) -> Case {
        let Self {
            kv,
            n_heads,
            n_kv_heads,
            head_dim,
            theta,
            stretch,
            fill,
            batch,
        } = self;
        let name = format!("{kv:?} {n_heads}/{n_kv_heads} heads of {head_dim}, theta {theta:e}, stretched {stretch}, {fill}, {batch:?}");
        Case::new("rope", name, move |gpu| check(gpu, self))
            .with_f16(kv == Elem::F16)
            .quick(n_heads * head_dim <= 2048)
    }

    /// By what YaRN multiplies both halves (Peng et al. 2023, equation 22).
    fn factor(&self) -> f64 {
        0.1 * self.stretch.ln() + 1.0
    }

    /// Angle of each pair at position 1. YaRN leaves fast pairs as they are and divides slow ones by the stretch; between pairs a
    /// quarter and a half of the way up it goes over from one to the other.
    fn inv_freq(&self) -> Vec<f64> {
        let half = self.head_dim / 2;
        let angle = |i: usize| {
            let share = (i as f64 / half as f64 * 4.0 - 1.0).clamp(0.0, 1.0);
            self.theta.powf(-(i as f64) / half as f64) * (1.0 - share + share / self.stretch)
        };
        (0..half).map(angle).collect()
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut shapes = Vec::new();
    for kv in [Elem::F32, Elem::F16] {
        for (n_heads, n_kv_heads, head_dim) in HEADS {
            let plain = Shape {
                kv,
                n_heads,
                n_kv_heads,
                head_dim,
                theta: 1e6,
                stretch: 1.0,
                fill: Fill::Plain,
                batch: Batch::Edges,
            };
            shapes.extend(ANGLES.map(|(theta, stretch)| Shape { theta, stretch, ..plain }));
            shapes.extend(FILLS.map(|fill| Shape { fill, ..plain }));
            shapes.push(Shape {
                batch: Batch::Chunk(250, 17),
                ..plain
            });
            if n_heads == 14 || n_heads == 12 {
                shapes.extend(STEPS.map(|pos| Shape {
                    batch: Batch::Step(pos),
                    ..plain
                }));
                shapes.push(Shape {
                    batch: Batch::Chunk(32_700, 200),
                    ..plain
                });
            }
        }
    }
    shapes.into_iter().map(Shape::case).collect()
}

/// The table up to the largest of the positions.
pub(super) fn table(gpu: &Gpu, inv_freq: &[f64], factor: f64, max: usize) -> qwgpu_runtime::Result<Tensor> {
    let low = (0..LOW).map(|l| (l, factor));
    let high = (0..=max / LOW).map(|h| (h * LOW, 1.0));
    let angles = low.chain(high).flat_map(|(pos, scale)| {
        inv_freq.iter().flat_map(move |f| {
            let (sin, cos) = (pos as f64 * f).sin_cos();
            [(cos * scale) as f32, (sin * scale) as f32]
        })
    });
    let angles: Vec<f32> = angles.collect();
    Tensor::from_f32(gpu, "rope table", angles.len() / (2 * inv_freq.len()), 2 * inv_freq.len(), &angles)
}

/// A cache that is NaN everywhere.
pub(super) fn poisoned_cache(gpu: &Gpu, n_blocks: usize, n_kv_heads: usize, head_dim: usize, kv: Elem) -> qwgpu_runtime::Result<KvLayer> {
    let cache = KvLayer::new(gpu, n_blocks, n_kv_heads, head_dim, kv)?;
    let n = n_blocks * n_kv_heads * BLOCK * head_dim;
    for side in [&cache.k, &cache.v] {
        match kv {
            Elem::F16 => side.write(gpu, &vec![f16::NAN; n]),
            _ => side.write(gpu, &vec![POISON; n]),
        }
    }
    Ok(cache)
}

fn check(gpu: &Gpu, s: Shape) -> Checked {
    let places = s.batch.places();
    let n_tokens = places.len();
    let n_all = s.n_heads + 2 * s.n_kv_heads;
    let qkv = fill::values(s.fill, 20, n_tokens, n_all * s.head_dim);
    let (inv_freq, factor) = (&s.inv_freq(), s.factor());
    let rows: Vec<u32> = places.iter().flat_map(|&(slot, pos, rope_pos)| [9, slot, pos, rope_pos]).collect();
    let n_blocks = N_SLOTS * BLOCKS_PER_SLOT + SPARE;
    let blocks = &fill::permutation(21, n_blocks)[..N_SLOTS * BLOCKS_PER_SLOT];
    let last = places.iter().map(|place| place.2 as usize).max().unwrap_or(0);

    let qkv_tensor = padded(gpu, n_tokens, n_all * s.head_dim, &qkv)?;
    let table = table(gpu, inv_freq, factor, last)?;
    let rows = Tensor::from_u32(gpu, "rows", n_tokens, 4, &rows)?;
    let block_table = Tensor::from_u32(gpu, "block table", N_SLOTS, BLOCKS_PER_SLOT, blocks)?;
    let q = Guarded::new(gpu, n_tokens, s.n_heads * s.head_dim, Elem::F32)?;
    let cache = poisoned_cache(gpu, n_blocks, s.n_kv_heads, s.head_dim, s.kv)?;
    let kernel = Rope::new(gpu, s.kv, s.head_dim)?;
    let mut pass = Pass::new(gpu);
    kernel.dispatch(
        &mut pass,
        &qkv_tensor,
        &table,
        Paging {
            rows: &rows,
            block_table: &block_table,
        },
        q.out(),
        &cache,
    );
    pass.submit();

    let head = |t: usize, h: usize| &qkv[(t * n_all + h) * s.head_dim..][..s.head_dim];
    let q_heads = (0..n_tokens * s.n_heads).map(|i| (i / s.n_heads, i % s.n_heads));
    let q_expected = q_heads.flat_map(|(t, h)| turned(head(t, h), places[t].2, factor, inv_freq));
    let mut outcome = compare::elements("q", s.n_heads * s.head_dim, &q.read_f32(gpu)?, q_expected)?;
    for (name, tensor, first_head) in [("k", &cache.k, s.n_heads), ("v", &cache.v, s.n_heads + s.n_kv_heads)] {
        let got = tensor.read_f32(gpu)?;
        let mut written = vec![false; got.len()];
        for (t, &(slot, pos, rope_pos)) in places.iter().enumerate() {
            let block = blocks[slot as usize * BLOCKS_PER_SLOT + pos as usize / BLOCK] as usize;
            for h in 0..s.n_kv_heads {
                let source = head(t, first_head + h);
                let at = ((block * s.n_kv_heads + h) * BLOCK + pos as usize % BLOCK) * s.head_dim;
                let expected = if name == "k" {
                    turned(source, rope_pos, factor, inv_freq)
                } else {
                    copied(source)
                };
                let stored = expected.into_iter().map(|e| stored(e, s.kv));
                outcome = outcome.and(compare::elements(name, s.head_dim, &got[at..at + s.head_dim], stored)?);
                written[at..at + s.head_dim].fill(true);
            }
        }
        if let Some(i) = (0..got.len()).find(|&i| !written[i] && !got[i].is_nan()) {
            return Err(crate::Failure::new(format!(
                "{name}: element {i} of the cache was written and should not be"
            )));
        }
    }
    Ok(outcome)
}

fn turned(head: &[f32], rope_pos: u32, factor: f64, inv_freq: &[f64]) -> Vec<Expected> {
    let half = head.len() / 2;
    let values = rope::reference(head, rope_pos, inv_freq, factor).into_iter().enumerate();
    // four table entries, their products and sums, each rounded once; the pair's magnitude bounds them all
    let pair = |i: usize| (f64::from(head[i % half]).abs() + f64::from(head[i % half + half]).abs()) * factor;
    values
        .map(|(i, value)| Expected {
            value,
            bound: 8.0 * EPS32 * pair(i) + TINY,
        })
        .collect()
}

fn copied(head: &[f32]) -> Vec<Expected> {
    head.iter()
        .map(|&x| Expected {
            value: f64::from(x),
            bound: 0.0,
        })
        .collect()
}

/// What the cache's type makes of it; conversions may round either way, and f16 holds at its ends.
pub(super) fn stored(e: Expected, kv: Elem) -> Expected {
    if kv == Elem::F32 {
        return e;
    }
    let value = e.value.clamp(-65504.0, 65504.0);
    Expected {
        value,
        bound: e.bound.min(65504.0) + 2.0 * EPS16 * value.abs() + TINY16,
    }
}
