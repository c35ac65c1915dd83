//! Random weights: the hash bit for bit, whatever the type and the split.

use qwgpu_runtime::{DType, Gpu, Matrix, Pass, kernels::fill_random};

use super::Checked;
use crate::{
    Axis, Case, Failure,
    compare::{self, EPS16, EPS32, Expected},
};

const AXES: &[Axis] = &[Axis::Binding];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in DType::ALL {
        for (rows, cols, seed) in [(1, 8, 0), (3, 24, 1), (65, 896, 77), (130, 1160, u32::MAX)] {
            let name = format!("{dtype} [{rows}, {cols}], seed {seed}");
            cases.push(
                Case::new("fill_random", name, move |gpu| check(gpu, dtype, rows, cols, seed))
                    .over(AXES)
                    .quick(true),
            );
        }
    }
    cases
}

fn check(gpu: &Gpu, dtype: DType, rows: usize, cols: usize, seed: u32) -> Checked {
    let scale = 0.03;
    let matrix = Matrix::new(gpu, "weights", rows, cols, dtype)?;
    let kernel = fill_random::FillRandom::new(gpu)?;
    let mut pass = Pass::new(gpu);
    kernel.dispatch(&mut pass, &matrix, seed, scale);
    pass.submit();
    let mut got = Vec::new();
    for row in 0..rows {
        got.extend(matrix.read_row(gpu, row)?);
    }
    if rows > 1 && got.chunks_exact(cols).skip(1).any(|row| row == &got[..cols]) {
        return Err(Failure::new("a row repeats the first one"));
    }
    let expected = (0..rows * cols).map(|i| {
        let x = scale * fill_random::reference(seed, i as u32);
        match dtype {
            DType::F32 => Expected {
                value: f64::from(x),
                bound: 0.0,
            },
            // WGSL leaves the direction of rounding to the adapter, so one unit in the last place, denormals included
            DType::F16 => Expected {
                value: f64::from(x),
                bound: f64::from(x.abs()) * 2.0 * EPS16 * (1.0 + EPS32) + 2f64.powi(-24),
            },
            DType::BF16 => Expected {
                value: f64::from(f32::from_bits(x.to_bits() & 0xffff_0000)),
                bound: 0.0,
            },
        }
    });
    compare::elements("weights", cols, &got, expected)
}
