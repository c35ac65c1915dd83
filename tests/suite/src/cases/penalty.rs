//! Repetition penalty: every logit of the row that is named, and no other.

use qwgpu_runtime::{Gpu, Pass, Tensor, kernels::penalty};

use super::Checked;
use crate::{
    Case, Guarded,
    compare::{self, EPS32, Expected, TINY},
    fill,
};

/// Columns, rows, the row that is penalised, ids: ends of workgroups of 64, and the vocabularies of the family.
const SHAPES: [(usize, usize, usize, usize); 14] = [
    (1, 1, 0, 1),
    (100, 3, 1, 0),
    (100, 3, 1, 1),
    (100, 3, 1, 63),
    (500, 2, 1, 64),
    (1000, 1, 0, 65),
    (300, 4, 0, 127),
    (300, 4, 3, 128),
    (300, 4, 2, 129),
    (999, 4, 3, 999),
    (2048, 2, 0, 1021),
    (32_000, 1, 0, 4096),
    (151_936, 2, 1, 8191),
    (152_064, 1, 0, 30_000),
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
    let mut push = |(cols, n_rows, row, n_ids), factor: f32, look| {
        let name = format!("{n_ids} ids in row {row} of [{n_rows}, {cols}], {factor}, {look:?}");
        let check = move |gpu: &_| check(gpu, cols, n_rows, row, n_ids, factor, look);
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

fn check(gpu: &Gpu, cols: usize, n_rows: usize, row: usize, n_ids: usize, factor: f32, look: Look) -> Checked {
    let logits: Vec<f32> = (0..n_rows * cols).map(|i| logit(look, i)).collect();
    let order = fill::permutation(15, cols);
    let out = Guarded::holding(gpu, n_rows, cols, &logits)?;
    let ids = Tensor::from_u32(gpu, "ids", 1, cols, &order)?;
    let kernel = penalty::Penalty::new(gpu)?;
    let mut pass = Pass::new(gpu);
    kernel.dispatch(&mut pass, out.out(), row, &ids, n_ids, factor);
    pass.submit();
    let mut expected: Vec<Expected> = logits
        .iter()
        .map(|&x| Expected {
            value: f64::from(x),
            bound: 0.0,
        })
        .collect();
    for &id in &order[..n_ids] {
        let i = row * cols + id as usize;
        let value = f64::from(penalty::reference(logits[i], factor));
        // WGSL allows a division 2.5 units in the last place; a product is rounded to either side, as the reference's is
        let units = if logits[i] < 0.0 { 1.0 } else { 2.5 };
        let error = units * 2.0 * EPS32 * value.abs();
        let flushed = if value.abs() < TINY { TINY } else { 0.0 };
        expected[i] = Expected {
            value,
            bound: error + flushed,
        };
    }
    let (got, expected): (Vec<f32>, Vec<Expected>) = out.read_f32(gpu)?.into_iter().zip(expected).map(finite).unzip();
    compare::elements("logits", cols, &got, expected)
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
