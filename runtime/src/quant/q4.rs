//! Blocks of four-bit integers with a scale and a zero point in 16 bits.
//!
//! An element is d (q - z), q in 0..=15. The upper nine bits are d, an f16 without sign and without the lower six bits of its
//! fraction; the lower seven bits are z in eighths, so that a lopsided block wastes none of its grid. A coarse d costs next to nothing,
//! as z and d are searched together: on normal values the error is within 2 % of that of an f16 scale and an f16 minimum, which take
//! twice the bits.
//!
//! Byte 4 i + j of a block holds element 8 i + j in its low half and element 8 i + 4 + j in its high half: a word is eight neighbours,
//! and its halves under the mask 0x0f0f0f0f are two words of four neighbouring bytes for an integer dot product.

use std::array;

use half::f16;

use super::{BLOCK, SHIFT, largest, round};

/// Bits of f16 that a scale leaves out at the end of its fraction.
const SCALE_SHIFT: u32 = 6;
/// Bits of the zero point.
const ZERO_BITS: u32 = 7;
/// Zero points to a step of the grid.
const ZEROS: f32 = 8.0;
/// The largest integer.
const HIGHEST: f32 = 15.0;
/// The largest zero point.
const HIGHEST_ZERO: f32 = 15.875;
/// The code of the largest finite scale; above lie infinity and NaN.
const HIGHEST_CODE: u16 = 0x1ef;
const NAN_CODE: u16 = 0x1f8;
/// Beyond what the largest scale reaches, and so small that nothing overflows.
const FARTHEST: f32 = 2_097_152.0;

/// Scales that are tried: downwards from the one that takes a little more than the range of the block.
const N_SCALES: u16 = 4;
/// How much more that is.
const TOP: f32 = 1.05;
/// Scales that are tried at once.
const PAIR: u16 = 2;
/// Zero points that are tried with each scale, away from the one that puts the middle of the range on the middle of the grid. They
/// differ by parts of a step: a whole one only leads to the same grid again, one integer further on. Each stands for all zero points
/// that lead to the same integers.
const ZERO_STARTS: [f32; STARTS] = [-0.375, -0.125, 0.125, 0.375];
const STARTS: usize = 4;
/// Grids that are tried at once.
const TRIED: usize = PAIR as usize * STARTS;

/// Where the integers of a block lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Grid {
    /// Bits 6 to 14 of the scale as f16.
    pub(crate) code: u16,
    /// The zero point: a multiple of an eighth from 0 to 15.875.
    pub(crate) zero: f32,
}

impl Grid {
    pub(crate) fn from_bits(bits: u16) -> Self {
        Self {
            code: bits >> ZERO_BITS,
            zero: f32::from(bits & ((1 << ZERO_BITS) - 1)) / ZEROS,
        }
    }

    pub(super) fn to_bits(self) -> u16 {
        self.code << ZERO_BITS | (self.zero * ZEROS) as u16
    }

    /// The step of the grid.
    pub(crate) fn scale(self) -> f32 {
        f16::from_bits(self.code << SCALE_SHIFT).to_f32()
    }

    /// The code of the largest scale that does not exceed `d`, `d` not negative; infinity counts as the largest.
    pub(crate) fn code_below(d: f32) -> u16 {
        let half = f16::from_f32(d);
        let above = u16::from(half.to_f32() > d);
        ((half.to_bits() - above) >> SCALE_SHIFT).min(HIGHEST_CODE)
    }
}

/// Appends the values of a block.
pub(super) fn dequantise(grid: Grid, elements: &[u8], values: &mut Vec<f32>) {
    let d = grid.scale();
    for word in elements.chunks_exact(4) {
        values.extend(word.iter().map(|&byte| d * (f32::from(byte & 15) - grid.zero)));
        values.extend(word.iter().map(|&byte| d * (f32::from(byte >> 4) - grid.zero)));
    }
}

/// Quantises a block.
pub(super) fn block(block: &[f32; BLOCK], bytes: &mut [u8]) -> Grid {
    let grid = search(block);
    let d = grid.scale();
    let inverse = if d > 0.0 { d.recip() } else { 0.0 };
    // rounded to nearest, the integer is the end of the fraction; a NaN has some integer too, as its grid says what it is
    let q = block.map(|x| ((x * inverse + grid.zero).clamp(0.0, HIGHEST) + SHIFT).to_bits() as u8 & 15);
    for (word, q) in bytes.chunks_exact_mut(4).zip(q.chunks_exact(8)) {
        for j in 0..4 {
            word[j] = q[j] | q[j + 4] << 4;
        }
    }
    grid
}

/// The best grid of some by squared error.
fn search(block: &[f32; BLOCK]) -> Grid {
    if largest(block).is_nan() {
        return Grid { code: NAN_CODE, zero: 0.0 };
    }
    let block = block.map(|x| x.clamp(-FARTHEST, FARTHEST));
    let (low, high) = range(&block);
    let mut best = Grid { code: 0, zero: 8.0 };
    if low == high {
        return best;
    }
    let top = (Grid::code_below(TOP * (high - low) / HIGHEST) + 1).min(HIGHEST_CODE);
    let mut least = f32::INFINITY;
    for pair in 0..N_SCALES / PAIR {
        // at the lower end the smallest scale may come twice
        let codes = [0, 1].map(|i| top.saturating_sub(PAIR * pair + i).max(1));
        let steps = codes.map(|code| Grid { code, zero: 0.0 }.scale());
        let centres = steps.map(|d| (HIGHEST - (low + high) / d) / 2.0);
        let zeros = array::from_fn(|i| eighths(centres[i / STARTS] + ZERO_STARTS[i % STARTS]));
        let tried = refined(&block, &array::from_fn(|i| steps[i / STARTS].recip()), &zeros);
        for (i, (zero, error)) in tried.into_iter().enumerate() {
            let error = steps[i / STARTS].powi(2) * error;
            if error < least {
                let code = codes[i / STARTS];
                (best, least) = (Grid { code, zero }, error);
            }
        }
    }
    best
}

/// Smallest and largest value, 0 among them: a grid that holds it serves any block.
fn range(block: &[f32; BLOCK]) -> (f32, f32) {
    let (mut low, mut high) = ([0f32; 4], [0f32; 4]);
    for x in block.chunks_exact(4) {
        for lane in 0..4 {
            low[lane] = low[lane].min(x[lane]);
            high[lane] = high[lane].max(x[lane]);
        }
    }
    (low.into_iter().fold(0.0, f32::min), high.into_iter().fold(0.0, f32::max))
}

/// The nearest zero point that there is.
fn eighths(zero: f32) -> f32 {
    round(ZEROS * zero, 0.0, ZEROS * HIGHEST_ZERO) / ZEROS
}

/// For each of some grids, the best zero point for the integers that it leads to, and their squared error in steps: a residual
/// r = x + z - q has its least sum of squares where its mean is zero. The grids lie side by side, so that no sum goes across a vector.
fn refined(block: &[f32; BLOCK], inverses: &[f32; TRIED], zeros: &[f32; TRIED]) -> [(f32, f32); TRIED] {
    let (mut sums, mut squares) = ([0f32; TRIED], [0f32; TRIED]);
    for x in block {
        for i in 0..TRIED {
            let place = x * inverses[i] + zeros[i];
            let residual = place - round(place, 0.0, HIGHEST);
            sums[i] += residual;
            squares[i] += residual * residual;
        }
    }
    array::from_fn(|i| {
        let best = eighths(zeros[i] - sums[i] / BLOCK as f32);
        let shift = best - zeros[i];
        (best, squares[i] + shift * (2.0 * sums[i] + shift * BLOCK as f32))
    })
}
