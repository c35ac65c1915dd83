//! Candidates under top-k: exact in keys and ids, chunk by chunk.

use qwgpu_runtime::{Elem, Gpu, Pass, kernels::topk};

use super::Checked;
use crate::{Case, Guarded, compare, fill, padded};

/// Columns, valid ones, rows, k: chunks of 2048 that end evenly and not, fewer logits than k.
const SHAPES: [(usize, usize, usize, usize); 26] = [
    (1, 1, 1, 1),
    (2, 1, 3, 2),
    (5, 5, 3, 8),
    (100, 64, 4, 64),
    (255, 255, 2, 256),
    (257, 256, 2, 255),
    (1023, 1000, 2, 20),
    (1024, 1024, 1, 256),
    (1024, 1023, 3, 1),
    (1025, 1025, 3, 1),
    (1025, 1025, 2, 256),
    (2049, 2048, 1, 50),
    (2050, 2049, 3, 3),
    (4096, 4096, 2, 256),
    (4100, 4097, 2, 205),
    (5000, 4097, 2, 256),
    (8192, 8191, 5, 100),
    (20_000, 17_001, 2, 127),
    (32_768, 32_768, 1, 40),
    (65_536, 65_000, 2, 129),
    (151_936, 151_665, 1, 5),
    (151_936, 151_936, 2, 50),
    (152_064, 151_643, 1, 1),
    (152_064, 151_643, 1, 20),
    (152_064, 151_665, 1, 255),
    (152_064, 151_643, 1, 256),
];

/// What the logits look like.
#[derive(Clone, Copy, Debug)]
enum Twist {
    Plain,
    /// Sixteen different values, so that nearly everything is a tie.
    Ties,
    /// All the same.
    Equal,
    /// Floats that follow each other, with keys that differ by one.
    Neighbours,
    /// NaN among them.
    Nan,
    /// NaN but for one in 151, so that k reaches into them.
    MostlyNan,
    /// Both zeros, which are equal, and nothing else.
    Zeros,
    /// -inf but for a few.
    Masked,
    /// -inf alone.
    AllMasked,
    /// Some +inf, all sizes of numbers on both sides.
    Huge,
    /// Rising with the id, so that the last chunk has all.
    Rising,
    /// Falling with the id.
    Falling,
}

const TWISTS: [Twist; 12] = [
    Twist::Plain,
    Twist::Ties,
    Twist::Equal,
    Twist::Neighbours,
    Twist::Nan,
    Twist::MostlyNan,
    Twist::Zeros,
    Twist::Masked,
    Twist::AllMasked,
    Twist::Huge,
    Twist::Rising,
    Twist::Falling,
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (cols, n_valid, n_rows, k) in SHAPES {
        for twist in TWISTS {
            let name = format!("{k} of {n_valid} of [{n_rows}, {cols}], {twist:?}");
            // one vocabulary has it all
            let quick = cols < 20_000 || (cols, k) == (152_064, 20) || matches!(twist, Twist::Plain | Twist::Ties);
            let check = move |gpu: &_| check(gpu, cols, n_valid, n_rows, k, twist);
            cases.push(Case::new("topk", name, move |gpu| check(gpu)).quick(quick));
        }
    }
    cases
}

fn twisted(twist: Twist, i: u64) -> f32 {
    let (plain, draw) = (fill::at(12, i), fill::hash(13, i));
    match twist {
        Twist::Ties => (draw % 16) as f32 - 8.0,
        Twist::Equal => 0.25,
        Twist::Neighbours => f32::from_bits(1f32.to_bits() + draw % 700),
        Twist::Nan if draw.is_multiple_of(4) => f32::NAN,
        Twist::MostlyNan if !draw.is_multiple_of(151) => f32::NAN,
        Twist::Zeros => [0.0, -0.0][(draw % 2) as usize],
        Twist::Masked if !draw.is_multiple_of(97) => f32::NEG_INFINITY,
        Twist::AllMasked => f32::NEG_INFINITY,
        Twist::Huge if draw.is_multiple_of(501) => f32::INFINITY,
        Twist::Huge => plain * 10f32.powi((draw % 61) as i32 - 30),
        Twist::Rising => (i / 3) as f32,
        Twist::Falling => -((i / 3) as f32),
        _ => plain,
    }
}

fn check(gpu: &Gpu, cols: usize, n_valid: usize, n_rows: usize, k: usize, twist: Twist) -> Checked {
    // padding beats everything, and must not be chosen
    let logit = |i: usize| if i % cols >= n_valid { 1e9 } else { twisted(twist, i as u64) };
    let logits: Vec<f32> = (0..n_rows * cols).map(logit).collect();
    let input = padded(gpu, n_rows, cols, &logits)?;
    let n = topk::n_candidates(n_valid, k);
    let (keys, ids) = (Guarded::new(gpu, n_rows, n, Elem::U32)?, Guarded::new(gpu, n_rows, n, Elem::U32)?);
    let kernel = topk::Topk::new(gpu)?;
    let mut pass = Pass::new(gpu);
    kernel.dispatch(&mut pass, &input, n_valid, k, keys.out(), ids.out());
    pass.submit();
    let got: Vec<_> = keys.read_u32(gpu)?.into_iter().zip(ids.read_u32(gpu)?).collect();
    let rows = logits.chunks_exact(cols);
    let expected: Vec<_> = rows.flat_map(|row| topk::reference(&row[..n_valid], k)).collect();
    compare::exact("(key, id)", n, &got, &expected)
}
