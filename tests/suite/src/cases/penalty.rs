//! Repetition penalty: every logit that has been seen, the row's own token's, and no other.

use qwgpu_runtime::{Elem, Gpu, Pass, kernels::penalty};

use super::Checked;
use crate::{
    Case, Guarded,
    compare::{self, EPS32, Expected, TINY},
    fill,
    rows::Rows,
};

/// Columns, rows, ids seen in each row: ends of words of 32 bits and of workgroups of 64 words, and the vocabularies of the family.
const SHAPES: [(usize, usize, usize); 14] = [
    (1000, 1, 0),
    (1000, 3, 1),
    (1023, 3, 63),
    (1024, 2, 64),
    (1025, 2, 1024),
    (2047, 1, 65),
    (2048, 4, 127),
    (2049, 4, 128),
    (4100, 3, 129),
    (2048, 2, 1021),
    (2016, 2, 2016),
    (32_000, 1, 4096),
    (151_936, 2, 8191),
    (152_064, 1, 30_000),
];

const FACTORS: [f32; 4] = [1.0, 1.1, 0.5, 1.75];

#[derive(Clone, Copy, Debug)]
enum Look {
    /// Both signs.
    Plain,
    /// Both zeros, and little else.
    Zeros,
    /// Up to 3e37 on both sides.
    Huge,
    /// Masked logits, -inf, and NaN among plain ones: they stay what they are.
    Masked,
    /// Below the smallest normal f32, which adapters may flush.
    Denormal,
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut push = |(cols, n_rows, n_ids), factor: f32, look| {
        let name = format!("{n_ids} ids of [{n_rows}, {cols}], {factor}, {look:?}");
        let check = move |gpu: &_| check(gpu, cols, n_rows, n_ids, factor, look);
        cases.push(Case::new("penalty", name, move |gpu| check(gpu)).quick(true));
    };
    for shape in SHAPES {
        for factor in FACTORS {
            push(shape, factor, Look::Plain);
            push(shape, factor, Look::Masked);
        }
        for look in [Look::Zeros, Look::Huge, Look::Denormal] {
            push(shape, 1.3, look);
            push(shape, 0.7, look);
        }
    }
    cases
}

fn logit(look: Look, i: usize) -> f32 {
    let (plain, draw) = (fill::at(14, i as u64), fill::hash(29, i as u64));
    match look {
        Look::Zeros if !draw.is_multiple_of(7) => [0.0, -0.0][(draw % 2) as usize],
        Look::Huge => 2.4e37 * plain,
        Look::Masked if draw.is_multiple_of(3) => f32::NEG_INFINITY,
        Look::Masked if draw % 16 == 1 => f32::NAN,
        Look::Denormal => 1e-39 * plain,
        _ => plain,
    }
}

fn check(gpu: &Gpu, cols: usize, n_rows: usize, n_ids: usize, factor: f32, look: Look) -> Checked {
    let logits: Vec<f32> = (0..n_rows * cols).map(|i| logit(look, i)).collect();
    let out = Guarded::holding(gpu, n_rows, cols, &logits)?;
    let rows = Rows::new(gpu, n_rows)?;
    let ids: Vec<Vec<u32>> = (0..n_rows as u64)
        .map(|row| fill::permutation(15 + row, cols)[..n_ids].to_vec())
        .collect();
    let words = penalty::seen_words(cols);
    let bits = |ids: &Vec<u32>| penalty::seen_bits(cols, ids);
    let seen = Guarded::new(gpu, n_rows, words, Elem::U32)?;
    seen.out().write(gpu, &ids.iter().flat_map(bits).collect::<Vec<u32>>());
    let kernel = penalty::Penalty::new(gpu)?;
    let mut pass = Pass::new(gpu);
    kernel.dispatch(&mut pass, out.out(), seen.out(), rows.out(), factor);
    pass.submit();
    let mut expected: Vec<Expected> = logits
        .iter()
        .map(|&x| Expected {
            value: f64::from(x),
            bound: 0.0,
        })
        .collect();
    let mut seen_after = Vec::new();
    for (row, (mut ids, at)) in ids.into_iter().zip(rows.before()).enumerate() {
        if !ids.contains(&at.token) {
            ids.push(at.token);
        }
        seen_after.extend(bits(&ids));
        for id in ids {
            let i = row * cols + id as usize;
            expected[i] = penalised(logits[i], factor);
        }
    }
    compare::exact("seen", words, &seen.read_u32(gpu)?, &seen_after)?;
    let (got, expected): (Vec<f32>, Vec<Expected>) = out.read_f32(gpu)?.into_iter().zip(expected).map(finite).unzip();
    compare::elements("logits", cols, &got, expected)
}

fn penalised(logit: f32, factor: f32) -> Expected {
    let value = f64::from(penalty::reference(logit, factor));
    // WGSL allows a division 2.5 units in the last place; a product is rounded to either side, as the reference's is
    let units = if logit < 0.0 { 1.0 } else { 2.5 };
    let flushed = if value.abs() < TINY { TINY } else { 0.0 };
    Expected {
        value,
        bound: units * 2.0 * EPS32 * value.abs() + flushed,
    }
}

/// Infinities and NaN have no difference: those that are as they should be count as zeros.
fn finite((got, expected): (f32, Expected)) -> (f32, Expected) {
    let value = expected.value as f32;
    if !value.is_finite() && (got == value || got.is_nan() && value.is_nan()) {
        (0.0, Expected { value: 0.0, bound: 0.0 })
    } else {
        (got, expected)
    }
}
