//! Whether numbers agree: each element has a bound of its own, derived from the arithmetic that made it.
//!
//! Rounding errors of a sum of K products grow like sqrt(K) eps times the sum of magnitudes when they are independent (Higham,
//! Accuracy and Stability of Numerical Algorithms, 2002, section 2.8), so that is the bound, with a small factor; a wrong index or a
//! lost term exceeds it by orders of magnitude.

use crate::{Failure, Mismatch, Outcome};

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

/// A comparison under way: values are added one by one, and all of them decide.
#[derive(Debug)]
pub struct Comparison<'a> {
    what: &'a str,
    cols: usize,
    outcome: Outcome,
    /// Sum of the squared bounds.
    allowance: f64,
    n_off: usize,
    worst_at: usize,
    mismatches: Vec<Mismatch>,
}

/// Values from which on their mean square error says more than the largest one.
const ENOUGH_FOR_A_MEAN: usize = 64;

impl<'a> Comparison<'a> {
    /// Of the tensor `what`, whose rows have `cols` elements.
    #[must_use]
    pub fn new(what: &'a str, cols: usize) -> Self {
        Self {
            what,
            cols,
            outcome: Outcome::default(),
            allowance: 0.0,
            n_off: 0,
            worst_at: 0,
            mismatches: Vec::new(),
        }
    }

    /// Compares element `index` of the tensor.
    pub fn add(&mut self, index: usize, got: f32, expected: Expected) {
        let off = (f64::from(got) - expected.value).abs();
        let ratio = if off == 0.0 { 0.0 } else { off / expected.bound };
        let sums = &mut self.outcome;
        sums.n_values += 1;
        sums.error += off * off;
        sums.power += expected.value * expected.value;
        sums.max_abs = sums.max_abs.max(off);
        self.allowance += expected.bound * expected.bound;
        if ratio > sums.worst || ratio.is_nan() {
            sums.worst = ratio;
            self.worst_at = index;
        }
        // NaN compares false with everything and must count as off
        if off.is_nan() || off > expected.bound {
            self.n_off += 1;
            if self.mismatches.len() < Failure::MAX_MISMATCHES {
                self.mismatches.push(Mismatch {
                    at: self.place(index),
                    got: format!("{got:e} ({:08x})", got.to_bits()),
                    expected: format!("{:e} +- {:.1e}", expected.value, expected.bound),
                });
            }
        }
    }

    fn place(&self, index: usize) -> String {
        format!("{}[{}, {}]", self.what, index / self.cols, index % self.cols)
    }

    /// The verdict.
    ///
    /// # Errors
    /// When an element is off, or when all of them together are: rounding may take single elements to their bounds, but errors
    /// that are near the bound everywhere have a cause. Half of the bounds' squares is what rounding always the same way comes to
    /// (a third), and a half more.
    pub fn finish(self) -> Result<Outcome, Failure> {
        let (what, n, sums) = (self.what, self.outcome.n_values, self.outcome);
        let figures = format!("largest difference {:.2e}, NMSE {:.1e}", sums.max_abs, sums.nmse());
        let Some(first) = self.mismatches.first() else {
            if n >= ENOUGH_FOR_A_MEAN && sums.error > 0.5 * self.allowance {
                let rms = (sums.error / self.allowance).sqrt();
                return Err(Failure {
                    outcome: Some(sums),
                    ..Failure::new(format!(
                        "{what}: no value is off, but on average they are at {rms:.2} of their bounds; {figures}"
                    ))
                });
            }
            return Ok(sums);
        };
        let reason = format!(
            "{what}: {} of {n} off; first {} = {}, expected {}; worst {} at {:.1} bounds; {figures}",
            self.n_off,
            first.at,
            first.got,
            first.expected,
            self.place(self.worst_at),
            sums.worst,
        );
        Err(Failure {
            reason,
            mismatches: self.mismatches,
            outcome: Some(sums),
        })
    }
}

/// Compares all elements of a tensor whose rows have `cols` of them.
///
/// # Errors
/// As [`Comparison::finish`], and when there are more or fewer expected values than elements.
pub fn elements(what: &str, cols: usize, got: &[f32], expected: impl IntoIterator<Item = Expected>) -> Result<Outcome, Failure> {
    let mut comparison = Comparison::new(what, cols);
    let mut n = 0;
    for expected in expected {
        comparison.add(n, got.get(n).copied().unwrap_or(f32::NAN), expected);
        n += 1;
    }
    if n != got.len() {
        return Err(Failure::new(format!("{what}: {} values, {n} expected", got.len())));
    }
    comparison.finish()
}

/// Compares some elements of a large tensor: pairs of index and expected value.
///
/// # Errors
/// As [`Comparison::finish`].
pub fn sampled(what: &str, cols: usize, got: &[f32], expected: impl IntoIterator<Item = (usize, Expected)>) -> Result<Outcome, Failure> {
    let mut comparison = Comparison::new(what, cols);
    for (index, expected) in expected {
        comparison.add(index, got[index], expected);
    }
    comparison.finish()
}

/// Compares integers, or anything else that must be equal, in rows of `cols`.
///
/// # Errors
/// Naming the first that differs.
pub fn exact<T: PartialEq + std::fmt::Debug>(what: &str, cols: usize, got: &[T], expected: &[T]) -> Result<Outcome, Failure> {
    if got.len() != expected.len() {
        return Err(Failure::new(format!("{what}: {} values, {} expected", got.len(), expected.len())));
    }
    let different = (0..got.len()).filter(|&i| got[i] != expected[i]);
    let n_off = different.clone().count();
    let mismatches: Vec<Mismatch> = different
        .take(Failure::MAX_MISMATCHES)
        .map(|i| Mismatch {
            at: format!("{what}[{}, {}]", i / cols, i % cols),
            got: format!("{:?}", got[i]),
            expected: format!("{:?}", expected[i]),
        })
        .collect();
    let Some(first) = mismatches.first() else {
        return Ok(Outcome {
            n_values: got.len(),
            ..Outcome::default()
        });
    };
    let reason = format!(
        "{what}: {n_off} of {} differ; first {} = {}, expected {}",
        got.len(),
        first.at,
        first.got,
        first.expected
    );
    Err(Failure {
        mismatches,
        ..Failure::new(reason)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(value: f64, bound: f64) -> Expected {
        Expected { value, bound }
    }

    #[test]
    fn one_value_beyond_its_bound_fails_and_is_named() {
        let got = [1.0, 2.0, 3.5, f32::NAN];
        let failure = elements("x", 2, &got, [1.0, 2.0, 3.0, 4.0].map(|v| expected(v, 0.1))).unwrap_err();
        assert_eq!(failure.mismatches.len(), 2);
        assert_eq!(failure.mismatches[0].at, "x[1, 0]");
        assert!(failure.reason.contains("2 of 4 off"), "{}", failure.reason);
        assert!(elements("x", 2, &got[..2], [1.0, 2.0].map(|v| expected(v, 0.0))).is_ok());
    }

    #[test]
    fn values_at_their_bounds_fail_together() {
        let at = |share: f64| elements("x", 8, &[1.0; 64], (0..64).map(|_| expected(1.0 + share, 1.0)));
        assert!(at(0.7).is_ok());
        assert!(at(0.72).is_err());
    }

    #[test]
    fn a_missing_or_surplus_value_fails() {
        assert!(elements("x", 1, &[1.0], []).is_err());
        assert!(elements("x", 1, &[], [expected(0.0, 1.0)]).is_err());
        assert!(exact("x", 1, &[1], &[1, 2]).is_err());
        let failure = exact("x", 2, &[1, 2, 3], &[1, 2, 4]).unwrap_err();
        assert_eq!(failure.mismatches[0].at, "x[1, 0]");
    }
}
