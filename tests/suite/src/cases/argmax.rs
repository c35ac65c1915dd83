//! Greedy choice: exact, with ties, NaN, infinities and padded vocabularies.

use qwgpu_runtime::{Gpu, Pass, kernels::argmax};

use super::Checked;
use crate::{Axis, Case, compare, fill, padded, rows::Rows};

const AXES: &[Axis] = &[Axis::Subgroup];

/// Columns, valid ones, rows: steps of 256, a chunk of 2048 and one more, and the family's vocabularies with their padding.
const SHAPES: [(usize, usize, usize); 17] = [
    (1, 1, 1),
    (2, 2, 3),
    (7, 5, 3),
    (33, 31, 2),
    (64, 63, 4),
    (255, 255, 2),
    (256, 256, 2),
    (257, 257, 3),
    (513, 500, 1),
    (1024, 1000, 5),
    (1030, 1025, 1),
    (2049, 2049, 3),
    (4099, 4096, 7),
    (32_768, 32_768, 2),
    (151_936, 151_665, 3),
    (152_064, 151_643, 1),
    (152_064, 152_064, 8),
];

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
    /// The largest value at the first id, and a little less at the last.
    First,
    /// The other way round.
    Last,
    /// -inf and NaN, and the lowest finite value twice: it is chosen.
    Lowest,
    /// Both zeros, which are equal, above numbers below zero.
    Zeros,
    /// Neighbouring numbers: the largest differs by a unit in the last place.
    Neighbours,
}

const TWISTS: [Twist; 13] = [
    Twist::None,
    Twist::Ties,
    Twist::Equal,
    Twist::Nan,
    Twist::AllNan,
    Twist::AllLow,
    Twist::Infinite,
    Twist::Negative,
    Twist::First,
    Twist::Last,
    Twist::Lowest,
    Twist::Zeros,
    Twist::Neighbours,
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (cols, n_valid, n_rows) in SHAPES {
        for twist in TWISTS {
            let name = format!("{n_valid} of [{n_rows}, {cols}], {twist:?}");
            let check = move |gpu: &_| check(gpu, cols, n_valid, n_rows, twist);
            cases.push(Case::new("argmax", name, move |gpu| check(gpu)).over(AXES).quick(true));
        }
    }
    cases
}

fn twisted(twist: Twist, cols: usize, n_valid: usize, row: usize, i: usize) -> f32 {
    let plain = fill::at(10, (row * cols + i) as u64);
    let draw = fill::hash(11, (row * cols + i) as u64);
    match twist {
        // padding beats everything, and must not be chosen
        _ if i >= n_valid => 1e9,
        Twist::Ties if draw.is_multiple_of(5) || i == n_valid - 1 => 2.0,
        Twist::Equal => -3.0,
        Twist::Nan if i.is_multiple_of(3) => f32::NAN,
        Twist::AllNan => f32::NAN,
        Twist::AllLow => f32::NEG_INFINITY,
        Twist::Infinite if i == n_valid / 2 => f32::INFINITY,
        Twist::Negative => plain - 2e30,
        Twist::First if i == 0 => 2.5,
        Twist::First if i == n_valid - 1 => 2.0,
        Twist::Last if i == 0 => 2.0,
        Twist::Last if i == n_valid - 1 => 2.5,
        Twist::Lowest if i == n_valid / 3 || i == n_valid - 1 => f32::MIN,
        Twist::Lowest => [f32::NAN, f32::NEG_INFINITY][(draw % 2) as usize],
        Twist::Zeros if draw.is_multiple_of(3) => [0.0, -0.0][(draw / 3 % 2) as usize],
        Twist::Zeros => -plain.abs() - 0.1,
        Twist::Neighbours => f32::from_bits(1f32.to_bits() + draw % (n_valid as u32).min(1 << 20)),
        _ => plain,
    }
}

fn check(gpu: &Gpu, cols: usize, n_valid: usize, n_rows: usize, twist: Twist) -> Checked {
    let logits: Vec<f32> = (0..n_rows * cols)
        .map(|i| twisted(twist, cols, n_valid, i / cols, i % cols))
        .collect();
    let input = padded(gpu, n_rows, cols, &logits)?;
    let rows = Rows::new(gpu, n_rows)?;
    let kernel = argmax::Argmax::new(gpu)?;
    let mut pass = Pass::new(gpu);
    let scratch = argmax::Scratch::new(gpu, n_rows, cols)?;
    kernel.dispatch(&mut pass, &input, n_valid, &scratch, rows.out());
    pass.submit();
    let expected: Vec<u32> = logits.chunks_exact(cols).map(|row| argmax::reference(&row[..n_valid])).collect();
    compare::exact("rows", 4, &rows.read(gpu)?, &rows.advanced(&expected))
}
