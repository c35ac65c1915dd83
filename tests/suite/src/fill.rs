//! Inputs: a counter-based hash, so that element i is the same on every machine, in every order and in every language.
//!
//! Values are not symmetric about zero: a lost sign, a transposed index or a neighbour's row then changes sums visibly.

use std::fmt;

/// What the values of an input look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Between -1 and 1.25, mean 1/8.
    Plain,
    /// All zero.
    Zeros,
    /// Plain, but for one 3e5 in each row: beyond f16, and enough to drown what is added in the wrong order.
    Outlier,
    /// Below the smallest normal f32; adapters may flush them.
    Denormal,
    /// All below zero.
    Negative,
}

impl Fill {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Plain, Self::Zeros, Self::Outlier, Self::Denormal, Self::Negative];
}

impl fmt::Display for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// 32 well-mixed bits for (seed, i): the finaliser of SplitMix64 (Steele et al. 2014).
#[must_use]
pub const fn hash(seed: u64, i: u64) -> u32 {
    let mut z = seed
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(i.wrapping_mul(0xd1b5_4a32_d192_ed03))
        .wrapping_add(1);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 32) as u32
}

/// Element i of the plain fill.
#[must_use]
pub const fn at(seed: u64, i: u64) -> f32 {
    (hash(seed, i) >> 8) as f32 * (2.25 / (1 << 24) as f32) - 1.0
}

/// A matrix `[rows, cols]`.
#[must_use]
pub fn values(fill: Fill, seed: u64, rows: usize, cols: usize) -> Vec<f32> {
    let outlier = |row: usize| hash(!seed, row as u64) as usize % cols;
    let element = |i: usize| {
        let plain = at(seed, i as u64);
        match fill {
            Fill::Plain => plain,
            Fill::Zeros => 0.0,
            Fill::Outlier if i % cols == outlier(i / cols) => 3e5,
            Fill::Outlier => plain,
            Fill::Denormal => plain * 1e-39,
            Fill::Negative => -plain.abs() - 0.01,
        }
    };
    (0..rows * cols).map(element).collect()
}

/// The numbers 0 to n - 1 in a shuffled order (Fisher-Yates).
#[must_use]
pub fn permutation(seed: u64, n: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n as u32).collect();
    for i in (1..n).rev() {
        order.swap(i, hash(seed, i as u64) as usize % (i + 1));
    }
    order
}
