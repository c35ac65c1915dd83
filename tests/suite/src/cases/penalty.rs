//! Repetition penalty: every logit of the row that is named, and no other.

use qwgpu_runtime::{Gpu, Pass, Tensor, kernels::penalty};

use super::Checked;
use crate::{
    Case, Guarded,
    compare::{self, EPS32, Expected},
    fill,
    fill::Fill,
};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (cols, n_rows, row, n_ids) in [
        (1, 1, 0, 1),
        (100, 3, 1, 0),
        (100, 3, 1, 63),
        (500, 2, 1, 64),
        (1000, 1, 0, 65),
        (999, 4, 3, 999),
    ] {
        for factor in [1.0, 1.1, 0.5] {
            let name = format!("{n_ids} ids in row {row} of [{n_rows}, {cols}], {factor}");
            cases.push(Case::new("penalty", name, move |gpu| check(gpu, cols, n_rows, row, n_ids, factor)).quick(true));
        }
    }
    cases
}

fn check(gpu: &Gpu, cols: usize, n_rows: usize, row: usize, n_ids: usize, factor: f32) -> Checked {
    let logits = fill::values(Fill::Plain, 14, n_rows, cols);
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
        // WGSL allows a division 2.5 units in the last place
        expected[i] = Expected {
            value,
            bound: 5.0 * EPS32 * value.abs(),
        };
    }
    compare::elements("logits", cols, &out.read_f32(gpu)?, expected)
}
