//! Element types of weights and of the KV cache.

use std::fmt;

/// How the elements of a weight matrix are stored. Sums are f32 whatever this says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32 (8 exponent bits, 7 mantissa bits).
    BF16,
    /// Blocks of [`BLOCK`] signed bytes q that share an f16 scale d: an element is d q.
    Q8,
    /// Blocks of [`BLOCK`] four-bit integers q that share a scale d and a zero point z, 16 bits together: an element is d (q - z).
    Q4,
}

/// Neighbouring elements of a row that share a scale in the quantised types.
pub const BLOCK: usize = 32;

impl DType {
    /// Every type, widest first.
    pub const ALL: [Self; 5] = [Self::F32, Self::F16, Self::BF16, Self::Q8, Self::Q4];

    /// Whether elements are integers that share a scale with their neighbours.
    #[must_use]
    pub const fn is_quantised(self) -> bool {
        matches!(self, Self::Q8 | Self::Q4)
    }

    /// What the columns of a matrix have to be a multiple of: kernels read eight elements at once, and the scales of a quantised row
    /// take whole words, two scales each.
    #[must_use]
    pub const fn column_multiple(self) -> usize {
        if self.is_quantised() { 2 * BLOCK } else { 8 }
    }

    /// Bytes of `cols` neighbouring elements of a row without their scales.
    #[must_use]
    pub const fn element_bytes(self, cols: usize) -> usize {
        match self {
            Self::F32 => 4 * cols,
            Self::F16 | Self::BF16 => 2 * cols,
            Self::Q8 => cols,
            Self::Q4 => cols / 2,
        }
    }

    /// Bytes of the scales (and zero points) of `cols` neighbouring elements of a row; 0 for floats, which have none.
    #[must_use]
    pub const fn scale_bytes(self, cols: usize) -> usize {
        if self.is_quantised() { 2 * (cols / BLOCK) } else { 0 }
    }

    /// Bytes of `cols` neighbouring elements of a row, scales included.
    #[must_use]
    pub const fn row_bytes(self, cols: usize) -> usize {
        self.element_bytes(cols) + self.scale_bytes(cols)
    }

    /// The lower-case name that options and reports use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::Q8 => "q8",
            Self::Q4 => "q4",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
