//! What a one-token step begins with: the embedding, exact, and the place, whose angles are composed up to position 131,071.

use qwgpu_runtime::{
    DType, Gpu, KV_BLOCK, Matrix, Pass, Tensor,
    kernels::{
        embed_step::{EmbedStep, Place},
        rope::{self, Paging},
    },
    stored,
};

use super::{Checked, rope::table};
use crate::{
    Axis, Case, Failure, Guarded, POISON,
    compare::{self, EPS32, Expected, TINY},
    fill,
    fill::Fill,
};

const N_SLOTS: usize = 3;
const BLOCKS_PER_SLOT: usize = 5;
/// Around the 512 columns that a workgroup moves; the first has fewer groups of eight than a head has pairs.
const D_MODEL: [usize; 8] = [64, 520, 8, 504, 512, 1032, 896, 1160];
const POSITIONS: [u32; 11] = [0, 1, 63, 64, 255, 256, 257, 4095, 32_768, 65_535, 131_071];

#[derive(Clone, Copy, Debug)]
struct Shape {
    dtype: DType,
    vocab: usize,
    d_model: usize,
    head_dim: usize,
    /// An id beyond the vocabulary leaves the embedding alone, as one of another part does.
    token: u32,
    rope_pos: u32,
    fill: Fill,
}

impl Shape {
    fn case(self, split: bool) -> Case {
        let Self {
            dtype,
            vocab,
            d_model,
            head_dim,
            token,
            rope_pos,
            fill,
        } = self;
        let name = format!("{dtype} [{vocab}, {d_model}], token {token}, heads of {head_dim}, position {rope_pos}, {fill}");
        let axes: &[Axis] = match (dtype, split) {
            (DType::F16, false) => &[Axis::F16],
            (DType::F16, true) => &[Axis::F16, Axis::Binding],
            (_, false) => &[],
            (_, true) => &[Axis::Binding],
        };
        Case::new("embed_step", name, move |gpu| check(gpu, &self)).over(axes)
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in DType::ALL {
        let shape = Shape {
            dtype,
            vocab: 37,
            d_model: 64,
            head_dim: 64,
            token: 5,
            rope_pos: 300,
            fill: Fill::Plain,
        };
        let whole = |d_model: &usize| d_model.is_multiple_of(dtype.column_multiple());
        for (i, d_model) in D_MODEL.into_iter().filter(whole).enumerate() {
            for (j, token) in [36, 0, 37, u32::MAX, 11].into_iter().enumerate() {
                let head_dim = [64, 128][(i + j) % 2];
                let rope_pos = POSITIONS[(i + j) % POSITIONS.len()];
                let case = Shape {
                    d_model,
                    token,
                    head_dim,
                    rope_pos,
                    ..shape
                };
                cases.push(case.case(false).quick((i + j) % 2 == 0));
            }
        }
        for rope_pos in POSITIONS {
            for head_dim in [64, 128] {
                let (d_model, token) = (72usize.next_multiple_of(dtype.column_multiple()), 17); // so that no name comes twice
                let case = Shape {
                    rope_pos,
                    head_dim,
                    d_model,
                    token,
                    ..shape
                };
                cases.push(case.case(false).quick(dtype == DType::BF16));
            }
        }
        cases.extend(Fill::ALL.map(|fill| Shape { fill, token: 23, ..shape }.case(false).quick(true)));
        // more than Mode::SMALL_BINDING bytes
        for (token, quick) in [(0, true), (150, false), (262, true)] {
            let large = Shape {
                vocab: 263,
                d_model: 520usize.next_multiple_of(dtype.column_multiple()),
                head_dim: 32, // whose table fits
                token,
                ..shape
            };
            cases.push(large.case(true).quick(quick));
        }
    }
    cases
}

fn check(gpu: &Gpu, s: &Shape) -> Checked {
    let values = fill::values(s.fill, 1, s.vocab, s.d_model);
    let stored = stored(s.dtype, &values);
    let weights = Matrix::from_f32(gpu, "weights", s.vocab, s.d_model, s.dtype, &values)?;
    let half = s.head_dim / 2;
    let inv_freq: Vec<f64> = (0..half).map(|i| 1e6f64.powf(-(i as f64) / half as f64)).collect();
    let factor = 1.25;
    let (slot, pos) = (s.rope_pos % N_SLOTS as u32, s.rope_pos % (BLOCKS_PER_SLOT as u32 * KV_BLOCK));
    let blocks = fill::permutation(21, N_SLOTS * BLOCKS_PER_SLOT);
    let paging = Paging {
        rows: &Tensor::from_u32(gpu, "rows", 2, 4, &[s.token, slot, pos, s.rope_pos, 1, 1, 1, 1])?,
        block_table: &Tensor::from_u32(gpu, "block table", N_SLOTS, BLOCKS_PER_SLOT, &blocks)?,
    };
    let before = fill::values(Fill::Negative, 2, 1, s.d_model);
    let known = (s.token as usize) < s.vocab;
    let out = if known {
        Guarded::new(gpu, 1, s.d_model, qwgpu_runtime::Elem::F32)?
    } else {
        Guarded::holding(gpu, 1, s.d_model, &before)?
    };
    let place = Place::new(gpu, s.head_dim)?;
    place.as_words().write(gpu, &vec![POISON; Place::words(s.head_dim)]);
    let angles = table(gpu, &inv_freq, factor, s.rope_pos as usize)?;
    let mut pass = Pass::new(gpu);
    EmbedStep::new(gpu, &[s.dtype])?.dispatch(&mut pass, &weights, &angles, paging, out.out(), &place);
    pass.submit();

    let expected = if known {
        &stored[s.token as usize * s.d_model..][..s.d_model]
    } else {
        &before
    };
    let embedding = compare::exact("out", s.d_model, &out.read_f32(gpu)?, expected)?;
    let words = place.as_words().read_u32(gpu)?;
    let block = blocks[slot as usize * BLOCKS_PER_SLOT + (pos / KV_BLOCK) as usize];
    let cell = compare::exact("place", 2, &words[..2], &[block, pos % KV_BLOCK])?;
    let turns = turns(&words[2..], s.rope_pos, &inv_freq, factor)?;
    Ok(embedding.and(cell).and(turns))
}

/// cos and sin of each pair, which is what turns (1, 0).
fn turns(words: &[u32], rope_pos: u32, inv_freq: &[f64], factor: f64) -> Result<crate::Outcome, Failure> {
    let got: Vec<f32> = words.iter().copied().map(f32::from_bits).collect();
    let half = inv_freq.len();
    let units: Vec<f32> = (0..2 * half).map(|i| if i < half { 1.0 } else { 0.0 }).collect();
    let turned = rope::reference(&units, rope_pos, inv_freq, factor);
    let expected = (0..half).flat_map(|i| [turned[i], turned[i + half]]).map(|value| Expected {
        value,
        bound: 8.0 * EPS32 * factor + TINY,
    });
    compare::elements("turns", 2, &got, expected)
}
