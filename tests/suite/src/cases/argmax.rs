//! Greedy choice: exact, with ties, NaN, infinities and padded vocabularies.

use qwgpu_runtime::{Elem, Gpu, Pass, kernels::argmax};

use super::Checked;
use crate::{Axis, Case, Guarded, compare, fill, padded};

const AXES: &[Axis] = &[Axis::Subgroup];

/// What is put into the plain logits.
#[derive(Clone, Copy, Debug)]
enum Twist {
    None,
    /// The largest value at several places.
    Ties,
    /// All the same.
    Equal,
    /// Every third NaN.
    Nan,
    /// All NaN.
    AllNan,
    /// All -inf.
    AllLow,
    /// One +inf.
    Infinite,
    /// All below zero.
    Negative,
}

const TWISTS: [Twist; 8] = [
    Twist::None,
    Twist::Ties,
    Twist::Equal,
    Twist::Nan,
    Twist::AllNan,
    Twist::AllLow,
    Twist::Infinite,
    Twist::Negative,
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (cols, n_valid, n_rows) in [
        (1, 1, 1),
        (7, 5, 3),
        (256, 256, 2),
        (1024, 1000, 5),
        (1030, 1025, 1),
        (152_064, 151_643, 1),
    ] {
        for twist in TWISTS {
            let name = format!("{n_valid} of [{n_rows}, {cols}], {twist:?}");
            cases.push(
                Case::new("argmax", name, move |gpu| check(gpu, cols, n_valid, n_rows, twist))
                    .over(AXES)
                    .quick(true),
            );
        }
    }
    cases
}

fn twisted(twist: Twist, cols: usize, n_valid: usize, row: usize, i: usize) -> f32 {
    let plain = fill::at(10, (row * cols + i) as u64);
    match twist {
        // padding beats everything, and must not be chosen
        _ if i >= n_valid => 1e9,
        Twist::Ties if fill::hash(11, (row * cols + i) as u64).is_multiple_of(5) || i == n_valid - 1 => 2.0,
        Twist::Equal => -3.0,
        Twist::Nan if i.is_multiple_of(3) => f32::NAN,
        Twist::AllNan => f32::NAN,
        Twist::AllLow => f32::NEG_INFINITY,
        Twist::Infinite if i == n_valid / 2 => f32::INFINITY,
        Twist::Negative => plain - 2e30,
        _ => plain,
    }
}

fn check(gpu: &Gpu, cols: usize, n_valid: usize, n_rows: usize, twist: Twist) -> Checked {
    let logits: Vec<f32> = (0..n_rows * cols)
        .map(|i| twisted(twist, cols, n_valid, i / cols, i % cols))
        .collect();
    let input = padded(gpu, n_rows, cols, &logits)?;
    let ids = Guarded::new(gpu, n_rows, 1, Elem::U32)?;
    let kernel = argmax::Argmax::new(gpu)?;
    let mut pass = Pass::new(gpu);
    kernel.dispatch(&mut pass, &input, n_valid, ids.out());
    pass.submit();
    let expected: Vec<u32> = logits.chunks_exact(cols).map(|row| argmax::reference(&row[..n_valid])).collect();
    compare::exact("ids", 1, &ids.read_u32(gpu)?, &expected)
}
