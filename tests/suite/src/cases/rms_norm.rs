//! RMS norm over the sizes of real models and around a workgroup's width.

use qwgpu_runtime::{Elem, Gpu, Pass, kernels::rms_norm};

use super::Checked;
use crate::{
    Axis, Case, Guarded,
    compare::{self, Expected, TINY},
    fill,
    fill::Fill,
    padded,
};

const AXES: &[Axis] = &[Axis::Subgroup];
/// Around the 1024 columns that a workgroup takes at once, and every model's width.
const D_MODEL: [usize; 19] = [
    1028, 4, 3084, 896, 64, 1020, 1536, 8, 1024, 2048, 2044, 124, 128, 3584, 252, 2052, 5120, 516, 8192,
];
/// Rows, and the first of them.
const ROWS: [(usize, usize); 5] = [(3, 2), (1, 0), (2, 5), (17, 1), (65, 0)];

/// One normalisation.
#[derive(Clone, Copy, Debug)]
struct Shape {
    d_model: usize,
    n_tokens: usize,
    first_row: usize,
    eps: f32,
    x: Fill,
    weight: Fill,
}

impl Shape {
    fn case(self) -> Case {
        let Self {
            d_model,
            n_tokens,
            first_row,
            eps,
            x,
            weight,
        } = self;
        let name = format!("[{n_tokens}, {d_model}] from row {first_row}, eps {eps:e}, x {x}, weight {weight}");
        Case::new("rms_norm", name, move |gpu| check(gpu, self)).over(AXES)
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (i, d_model) in D_MODEL.into_iter().enumerate() {
        for (j, (n_tokens, first_row)) in ROWS.into_iter().enumerate() {
            let shape = Shape {
                d_model,
                n_tokens,
                first_row,
                eps: [1e-6, 1e-5][(i + j) % 2],
                x: Fill::Plain,
                weight: Fill::Plain,
            };
            cases.push(shape.case().quick((i + j) % 3 == 0));
            if j < 2 {
                for fill in Fill::ALL.into_iter().filter(|&fill| fill != Fill::Plain) {
                    let quick = j == 0 && i < 3;
                    cases.push(Shape { x: fill, ..shape }.case().quick(quick));
                    cases.push(Shape { weight: fill, ..shape }.case().quick(quick));
                }
            }
        }
    }
    cases
}

fn check(gpu: &Gpu, s: Shape) -> Checked {
    let n_rows = s.first_row + s.n_tokens;
    let x = fill::values(s.x, 3, n_rows, s.d_model);
    let weight = fill::values(s.weight, 4, 1, s.d_model);
    let x_tensor = padded(gpu, n_rows, s.d_model, &x)?;
    let weight_tensor = padded(gpu, 1, s.d_model, &weight)?;
    let out = Guarded::new(gpu, s.n_tokens, s.d_model, Elem::F32)?;
    let kernel = rms_norm::RmsNorm::new(gpu)?;
    let mut pass = Pass::new(gpu);
    kernel.dispatch(&mut pass, &x_tensor, s.first_row, &weight_tensor, s.eps, out.out());
    pass.submit();
    let rows = x.chunks_exact(s.d_model).skip(s.first_row);
    let expected = rows.flat_map(|row| expected(row, &weight, s.eps));
    compare::elements("out", s.d_model, &out.read_f32(gpu)?, expected)
}

/// One row, and what f32 explains of its errors.
pub(super) fn expected(x: &[f32], weight: &[f32], eps: f32) -> Vec<Expected> {
    // the squares' sum has one sign, so its relative error is the sum's
    let relative = compare::sum_bound(x.len(), 1.0);
    let values = rms_norm::reference(x, weight, eps).into_iter().zip(weight);
    let with_bound = |(value, w): (f64, &f32)| {
        let w = f64::from(w.abs());
        // a flushed x loses TINY times at most 1/sqrt(eps); a flushed weight loses the value
        let flushed = 2e3 * TINY * w.max(1.0) + if w < TINY { value.abs() } else { 0.0 };
        Expected {
            value,
            bound: relative * value.abs() + flushed,
        }
    };
    values.map(with_bound).collect()
}
