//! Embedding gather: exact, since widening is.

use qwgpu_runtime::{
    DType, Elem, Gpu, Matrix, Pass, Tensor,
    kernels::{Row, embed, fill_random::FillRandom},
    stored,
};

use super::{Checked, models::MODELS};
use crate::{Axis, Case, Failure, Guarded, Scale, compare, fill, fill::Fill};

/// Around the 512 columns that a workgroup moves.
const D_MODEL: [usize; 8] = [520, 8, 504, 64, 512, 1032, 896, 1160];
const TOKENS: [usize; 7] = [3, 1, 65, 2, 17, 64, 130];
const VOCAB: [usize; 5] = [37, 1, 101, 2, 64];

/// One gather.
#[derive(Clone, Copy, Debug)]
struct Shape {
    dtype: DType,
    vocab: usize,
    d_model: usize,
    n_tokens: usize,
    fill: Fill,
    /// Whether ids beyond the vocabulary are among the tokens: their rows must be left alone, as those of another part are.
    unknown: bool,
}

impl Shape {
    fn case(self, split: bool) -> Case {
        let Self {
            dtype,
            vocab,
            d_model,
            n_tokens,
            fill,
            unknown,
        } = self;
        let unknown = if unknown { ", some unknown" } else { "" };
        let name = format!("{dtype} [{vocab}, {d_model}] of {n_tokens} tokens{unknown}, {fill}");
        let axes: &[Axis] = match (dtype, split) {
            (DType::F16, false) => &[Axis::F16],
            (DType::F16, true) => &[Axis::F16, Axis::Binding],
            (_, false) => &[],
            (_, true) => &[Axis::Binding],
        };
        Case::new("embed", name, move |gpu| check(gpu, self)).over(axes)
    }

    /// Ends of the vocabulary, then any id of it.
    fn token(&self, t: usize) -> u32 {
        let vocab = self.vocab as u32;
        let unknown = [vocab, u32::MAX, vocab + 1];
        if self.unknown && t % 2 == 1 {
            return unknown[t / 2 % unknown.len()];
        }
        [0, vocab - 1].get(t).copied().unwrap_or_else(|| fill::hash(2, t as u64) % vocab)
    }
}

pub(super) fn cases(scale: Scale) -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in DType::ALL {
        let shape = move |vocab, d_model: usize, n_tokens, fill| Shape {
            dtype,
            vocab,
            d_model: d_model.next_multiple_of(dtype.column_multiple()),
            n_tokens,
            fill,
            unknown: false,
        };
        let mut n = dtype as usize;
        for d_model in D_MODEL {
            for n_tokens in TOKENS {
                let case = shape(VOCAB[n % VOCAB.len()], d_model, n_tokens, Fill::Plain).case(false);
                cases.push(case.quick(n.is_multiple_of(3)));
                n += 1;
            }
        }
        for fill in Fill::ALL {
            cases.push(shape(19, 584, 23, fill).case(false).quick(true));
        }
        // more than Mode::SMALL_BINDING bytes
        for (vocab, d_model, n_tokens) in [(159, 896, 15), (263, 520, 26), (127, 1160, 9)] {
            let known = shape(vocab, d_model, n_tokens, Fill::Outlier);
            for unknown in [false, true] {
                cases.push(Shape { unknown, ..known }.case(true).quick(true));
            }
        }
        for (model, vocab) in MODELS.into_iter().zip(models_vocab(scale, dtype)) {
            for n_tokens in [1, 33] {
                let name = format!("{} {dtype} [{vocab}, {}] of {n_tokens} tokens", model.name, model.d_model);
                let case = Case::new("embed", name, move |gpu| {
                    check_device(gpu, shape(vocab, model.d_model, n_tokens, Fill::Plain))
                });
                cases.push(case.over(if dtype == DType::F16 { &[Axis::F16] } else { &[] }));
            }
        }
    }
    cases
}

/// Rows of each model's embedding: CPU drivers get a few hundred, and wide types no more than 2.5 GB.
fn models_vocab(scale: Scale, dtype: DType) -> impl Iterator<Item = usize> {
    MODELS.into_iter().enumerate().map(move |(i, model)| match scale {
        Scale::Cut => 211 + i,
        Scale::Real => model.vocab.min(2_500_000_000 / dtype.row_bytes(model.d_model)),
    })
}

/// Runs the kernel on `weights`; `before` is what its output holds, poison if nothing.
fn gather(gpu: &Gpu, weights: &Matrix, tokens: &[u32], before: Option<&[f32]>) -> Result<Vec<f32>, Failure> {
    let words: Vec<u32> = tokens
        .iter()
        .map(|&token| Row {
            token,
            slot: 7,
            pos: 9,
            rope_pos: 11,
        })
        .flat_map(|r| [r.token, r.slot, r.pos, r.rope_pos])
        .collect();
    let rows = Tensor::from_u32(gpu, "rows", tokens.len(), 4, &words)?;
    let out = match before {
        Some(values) => Guarded::holding(gpu, tokens.len(), weights.cols(), values)?,
        None => Guarded::new(gpu, tokens.len(), weights.cols(), Elem::F32)?,
    };
    let kernel = embed::Embed::new(gpu, &[weights.dtype()])?;
    let mut pass = Pass::new(gpu);
    kernel.dispatch(&mut pass, weights, &rows, out.out());
    pass.submit();
    out.read_f32(gpu)
}

fn check(gpu: &Gpu, s: Shape) -> Checked {
    let values = fill::values(s.fill, 1, s.vocab, s.d_model);
    let stored = stored(s.dtype, &values);
    let weights = Matrix::from_f32(gpu, "weights", s.vocab, s.d_model, s.dtype, &values)?;
    let tokens: Vec<u32> = (0..s.n_tokens).map(|t| s.token(t)).collect();
    let before = fill::values(Fill::Negative, 2, s.n_tokens, s.d_model);
    let got = gather(gpu, &weights, &tokens, s.unknown.then_some(&before))?;
    let known = |token: u32| (token as usize) < s.vocab;
    let expected: Vec<f32> = tokens
        .iter()
        .zip(before.chunks_exact(s.d_model))
        .flat_map(|(&token, before)| match known(token) {
            true => embed::reference(&stored, s.d_model, &[token]),
            false => before.to_vec(),
        })
        .collect();
    compare::exact("out", s.d_model, &got, &expected)
}

/// The same for an embedding that the device fills and only the rows asked for are read of.
fn check_device(gpu: &Gpu, s: Shape) -> Checked {
    let weights = Matrix::new(gpu, "weights", s.vocab, s.d_model, s.dtype)?;
    let mut pass = Pass::new(gpu);
    FillRandom::new(gpu)?.dispatch(&mut pass, &weights, 3, 0.05);
    pass.submit();
    let tokens: Vec<u32> = (0..s.n_tokens).map(|t| s.token(t)).collect();
    let got = gather(gpu, &weights, &tokens, None)?;
    let mut expected = Vec::new();
    for &token in &tokens {
        expected.extend(weights.read_row(gpu, token as usize)?);
    }
    compare::exact("out", s.d_model, &got, &expected)
}
