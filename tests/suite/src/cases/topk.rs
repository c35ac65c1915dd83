//! Top-k selection: exact in order and ids, for one round and several.

use qwgpu_runtime::{Elem, Gpu, Pass, kernels::topk};

use super::Checked;
use crate::{Case, Guarded, compare, fill, padded};

/// What the logits look like.
#[derive(Clone, Copy, Debug)]
enum Twist {
    Plain,
    /// Sixteen different values, so that nearly everything is a tie.
    Ties,
    /// NaN among them.
    Nan,
    /// Both zeros, which are equal, and nothing else.
    Zeros,
    /// -inf but for a few.
    Masked,
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let shapes = [
        (1, 1, 1, 1),
        (5, 5, 3, 8),
        (1023, 1000, 2, 20),
        (1024, 1024, 1, 256),
        (1025, 1025, 3, 1),
        (2049, 2048, 1, 50),
        (5000, 4097, 2, 256),
        (32_768, 32_768, 1, 40),
        (152_064, 151_643, 1, 1),
        (152_064, 151_643, 1, 256),
    ];
    for (cols, n_valid, n_rows, k) in shapes {
        for twist in [Twist::Plain, Twist::Ties, Twist::Nan, Twist::Zeros, Twist::Masked] {
            let name = format!("{k} of {n_valid} of [{n_rows}, {cols}], {twist:?}");
            cases.push(Case::new("topk", name, move |gpu| check(gpu, cols, n_valid, n_rows, k, twist)).quick(true));
        }
    }
    cases
}

fn twisted(twist: Twist, i: u64) -> f32 {
    let (plain, draw) = (fill::at(12, i), fill::hash(13, i));
    match twist {
        Twist::Ties => (draw % 16) as f32 - 8.0,
        Twist::Nan if draw.is_multiple_of(4) => f32::NAN,
        Twist::Zeros => [0.0, -0.0][(draw % 2) as usize],
        Twist::Masked if !draw.is_multiple_of(97) => f32::NEG_INFINITY,
        _ => plain,
    }
}

fn check(gpu: &Gpu, cols: usize, n_valid: usize, n_rows: usize, k: usize, twist: Twist) -> Checked {
    // padding beats everything, and must not be chosen
    let logit = |i: usize| if i % cols >= n_valid { 1e9 } else { twisted(twist, i as u64) };
    let logits: Vec<f32> = (0..n_rows * cols).map(logit).collect();
    let input = padded(gpu, n_rows, cols, &logits)?;
    let (values, ids) = (Guarded::new(gpu, n_rows, k, Elem::F32)?, Guarded::new(gpu, n_rows, k, Elem::U32)?);
    let scratch = topk::Scratch::new(gpu, n_rows, cols, k)?;
    let kernel = topk::Topk::new(gpu)?;
    let mut pass = Pass::new(gpu);
    kernel.dispatch(&mut pass, &input, n_valid, &scratch, values.out(), ids.out());
    pass.submit();
    let got_values = values.read_f32(gpu)?;
    let got = got_values.into_iter().map(key).zip(ids.read_u32(gpu)?);
    let (n, mut expected) = (k.min(n_valid), Vec::new());
    for row in logits.chunks_exact(cols) {
        expected.extend(topk::reference(&row[..n_valid], k).into_iter().map(|(value, id)| (key(value), id)));
        // places that nothing fills have no id; their value says nothing
        expected.extend((n..k).map(|_| (0, u32::MAX)));
    }
    let got: Vec<_> = got.map(|(value, id)| if id == u32::MAX { (0, id) } else { (value, id) }).collect();
    compare::exact("(bits, id)", k, &got, &expected)
}

/// Bits, with all NaN alike: drivers may change the payload.
fn key(x: f32) -> u32 {
    if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }
}
