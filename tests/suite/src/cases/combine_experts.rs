//! The weighted sum of what a token's experts have made.

use qwgpu_runtime::{
    Gpu, Pass,
    kernels::combine_experts::{self, CombineExperts},
};

use super::Checked;
use crate::{
    Case, Guarded,
    compare::{self, Expected},
    fill,
    fill::Fill,
    padded,
};

/// Around the 256 columns of a workgroup, and the models'.
const D_MODEL: [usize; 9] = [260, 4, 8, 64, 252, 256, 516, 2048, 3584];
const TOKENS: [usize; 4] = [3, 1, 2, 65];
/// k and the slices of the shared expert: the models', one of each, none of either.
const SLOTS: [[usize; 2]; 6] = [[8, 8], [1, 0], [4, 4], [0, 1], [2, 1], [6, 0]];

/// One sum.
#[derive(Clone, Copy, Debug)]
struct Shape {
    d_model: usize,
    n_tokens: usize,
    k: usize,
    n_shared: usize,
    factors: Fill,
    y: Fill,
}

impl Shape {
    fn case(self) -> Case {
        let Self {
            d_model,
            n_tokens,
            k,
            n_shared,
            factors,
            y,
        } = self;
        let name = format!("[{n_tokens}, {d_model}], {k} experts and {n_shared}, factors {factors}, y {y}");
        Case::new("combine_experts", name, move |gpu| check(gpu, &self))
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let plain = |d_model, n_tokens, [k, n_shared]: [usize; 2]| Shape {
        d_model,
        n_tokens,
        k,
        n_shared,
        factors: Fill::Plain,
        y: Fill::Plain,
    };
    for (i, d_model) in D_MODEL.into_iter().enumerate() {
        for (j, n_tokens) in TOKENS.into_iter().enumerate() {
            for (l, slots) in SLOTS.into_iter().enumerate() {
                let case = plain(d_model, n_tokens, slots).case();
                cases.push(case.quick((i + j + l) % 3 == 0));
            }
        }
    }
    for fill in Fill::ALL.into_iter().filter(|&fill| fill != Fill::Plain) {
        for n_tokens in [1, 5] {
            let shape = plain(300, n_tokens, [4, 2]);
            cases.push(Shape { factors: fill, ..shape }.case().quick(true));
            cases.push(Shape { y: fill, ..shape }.case().quick(true));
        }
    }
    cases
}

fn check(gpu: &Gpu, s: &Shape) -> Checked {
    let n_slots = s.k + s.n_shared;
    let factors = fill::values(s.factors, 61, s.n_tokens, s.k + 1);
    let y = fill::values(s.y, 62, s.n_tokens * n_slots, s.d_model);
    let before = fill::values(Fill::Plain, 63, s.n_tokens, s.d_model);
    let factors_tensor = padded(gpu, s.n_tokens, s.k + 1, &factors)?;
    let y_tensor = padded(gpu, s.n_tokens * n_slots, s.d_model, &y)?;
    let x = Guarded::holding(gpu, s.n_tokens, s.d_model, &before)?;
    let kernel = CombineExperts::new(gpu)?;
    let mut pass = Pass::new(gpu);
    kernel.dispatch(&mut pass, &y_tensor, &factors_tensor, n_slots, x.out());
    pass.submit();
    let expected = (0..s.n_tokens * s.d_model).map(|i| {
        let (t, d) = (i / s.d_model, i % s.d_model);
        let slots: Vec<f32> = (0..n_slots).map(|slot| y[(t * n_slots + slot) * s.d_model + d]).collect();
        expected(&factors[t * (s.k + 1)..][..=s.k], &slots, before[i])
    });
    compare::elements("x", s.d_model, &x.read_f32(gpu)?, expected)
}

fn expected(factors: &[f32], y: &[f32], x: f32) -> Expected {
    let last = factors.len() - 1;
    let mut magnitude = f64::from(x).abs();
    let mut flushed = 0.0;
    for (slot, &y) in y.iter().enumerate() {
        let factor = factors[slot.min(last)];
        let product = (f64::from(factor) * f64::from(y)).abs();
        magnitude += product;
        if y.abs() < f32::MIN_POSITIVE || factor.abs() < f32::MIN_POSITIVE {
            flushed += product;
        }
    }
    Expected {
        value: combine_experts::reference(factors, y, x),
        bound: compare::sum_bound(y.len() + 1, magnitude) + flushed,
    }
}
