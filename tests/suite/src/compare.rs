//! Whether numbers agree: each element has a bound of its own, derived from the arithmetic that made it.
//!
//! Rounding errors of a sum of K products grow like sqrt(K) eps times the sum of magnitudes when they are independent (Higham,
//! Accuracy and Stability of Numerical Algorithms, 2002, section 2.8), so that is the bound, with a small factor; a wrong index or a
//! lost term exceeds it by orders of magnitude.

use crate::case::{Failure, Outcome};

/// Unit roundoff of f32.
pub const EPS32: f64 = 1.0 / (1u64 << 24) as f64;
/// Unit roundoff of f16.
pub const EPS16: f64 = 1.0 / (1u64 << 11) as f64;
/// What a flushed denormal loses.
pub const TINY: f64 = f32::MIN_POSITIVE as f64;
/// Half of the smallest f16: the rounding error among its denormals; adapters that flush them lose up to 2^-14.
pub const TINY16: f64 = 1.0 / (1u64 << 14) as f64;

/// What one element should be, and how far it may be off.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// The reference's value.
    pub value: f64,
    /// The largest difference that rounding explains.
    pub bound: f64,
}

/// Bound of a sum of `n` terms whose magnitudes add up to `magnitude`, each rounded a few times.
#[must_use]
pub fn sum_bound(n: usize, magnitude: f64) -> f64 {
    (4.0 + 2.0 * (n as f64).sqrt()) * EPS32 * magnitude + n as f64 * TINY
}

/// Relative error that WGSL allows `exp(x)`: 3 + 2 |x| units in the last place (of 2 EPS32 each).
#[must_use]
pub fn exp_error(x: f64) -> f64 {
    2.0 * EPS32 * (3.0 + 2.0 * x.abs())
}

/// Compares all elements.
///
/// # Errors
/// Naming the first element that is off, the worst one, and the normalised mean square error of all.
pub fn elements(what: &str, got: &[f32], expected: impl IntoIterator<Item = Expected>) -> Result<Outcome, Failure> {
    let (mut n, mut n_off, mut first) = (0, 0, None);
    let (mut worst, mut worst_at) = (0.0, 0);
    let (mut error, mut power) = (0.0, 0.0);
    for (i, e) in expected.into_iter().enumerate() {
        let x = f64::from(got[i]);
        let off = (x - e.value).abs();
        n += 1;
        error += off * off;
        power += e.value * e.value;
        let ratio = if off == 0.0 { 0.0 } else { off / e.bound };
        if ratio > worst || ratio.is_nan() {
            (worst, worst_at) = (ratio, i);
        }
        // NaN compares false with everything and must count as off
        if off.is_nan() || off > e.bound {
            n_off += 1;
            first.get_or_insert((i, x, e));
        }
    }
    if n != got.len() {
        return Err(Failure::new(format!("{what}: {} values, {n} expected", got.len())));
    }
    let Some((i, x, e)) = first else {
        return Ok(Outcome { n_values: n, worst });
    };
    let nmse = error / power.max(TINY);
    Err(Failure::new(format!(
        "{what}: {n_off} of {n} off; first [{i}] = {x:e}, expected {:e} +- {:.1e}; worst [{worst_at}] at {worst:.1} bounds; NMSE {nmse:.1e}",
        e.value, e.bound
    )))
}

/// Compares integers, or anything else that must be equal.
///
/// # Errors
/// Naming the first that differs.
pub fn exact<T: PartialEq + std::fmt::Debug>(what: &str, got: &[T], expected: &[T]) -> Result<Outcome, Failure> {
    if got.len() != expected.len() {
        return Err(Failure::new(format!("{what}: {} values, {} expected", got.len(), expected.len())));
    }
    match got.iter().zip(expected).position(|(a, b)| a != b) {
        None => Ok(Outcome {
            n_values: got.len(),
            worst: 0.0,
        }),
        Some(i) => Err(Failure::new(format!("{what}: [{i}] = {:?}, expected {:?}", got[i], expected[i]))),
    }
}
