//! RMS norm over the sizes of real models and around a workgroup's width.

use qwgpu_runtime::{Elem, Gpu, Pass, Tensor, kernels::rms_norm};

use super::Checked;
use crate::{
    Axis, Case, Guarded,
    compare::{self, Expected, TINY},
    fill,
    fill::Fill,
    padded,
};

const AXES: &[Axis] = &[Axis::Subgroup];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (d_model, n_tokens, first_row) in [
        (4, 1, 0),
        (64, 3, 2),
        (896, 2, 0),
        (1020, 5, 1),
        (1024, 1, 6),
        (1028, 2, 0),
        (3584, 3, 1),
    ] {
        for fill in Fill::ALL {
            let name = format!("[{n_tokens}, {d_model}] from row {first_row}, {fill}");
            cases.push(
                Case::new("rms_norm", name, move |gpu| check(gpu, d_model, n_tokens, first_row, fill))
                    .over(AXES)
                    .quick(true),
            );
        }
    }
    cases
}

fn check(gpu: &Gpu, d_model: usize, n_tokens: usize, first_row: usize, fill: Fill) -> Checked {
    let eps = 1e-6;
    let x = fill::values(fill, 3, first_row + n_tokens, d_model);
    let weight = fill::values(Fill::Plain, 4, 1, d_model);
    let x_tensor = padded(gpu, first_row + n_tokens, d_model, &x)?;
    let weight_tensor = Tensor::from_f32(gpu, "weight", 1, d_model, &weight)?;
    let out = Guarded::new(gpu, n_tokens, d_model, Elem::F32)?;
    let kernel = rms_norm::RmsNorm::new(gpu)?;
    let mut pass = Pass::new(gpu);
    kernel.dispatch(&mut pass, &x_tensor, first_row, &weight_tensor, eps, out.out());
    pass.submit();
    let expected = x
        .chunks_exact(d_model)
        .skip(first_row)
        .flat_map(|row| rms_norm::reference(row, &weight, eps));
    // the squares' sum has one sign, so its relative error is the sum's; a flushed x loses TINY times at most 1/sqrt(eps)
    let relative = compare::sum_bound(d_model, 1.0);
    let expected = expected.map(|value| Expected {
        value,
        bound: relative * value.abs() + 2e3 * TINY,
    });
    compare::elements("out", d_model, &out.read_f32(gpu)?, expected)
}
