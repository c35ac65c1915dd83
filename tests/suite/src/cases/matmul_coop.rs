//! Products on matrix units: every weight type and grid of subgroups, sizes around every tile edge, epilogues, split matrices, outliers
//! that only scaled rows can hold, the matrices of real models.

use qwgpu_runtime::DType;

use super::{
    models,
    product::{Kernel, Shape, Source},
};
use crate::{Case, Scale, fill::Fill};

/// Subgroups to each side of a tile: tiles of 64 and of 128 outputs each way.
const SIDES: [u32; 2] = [2, 4];
/// Around the 64 or 128 tokens of a tile, its blocks of 32 and matrices of 16, and more than the 8 tiles of a band.
const TOKENS: [usize; 16] = [131, 1, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 9, 257, 577];
/// The same for rows.
const ROWS: [usize; 12] = [133, 1, 15, 16, 33, 64, 65, 127, 128, 129, 193, 300];
/// Around the 64 columns of a slab; all multiples of 8.
const COLS: [usize; 11] = [136, 8, 64, 72, 56, 128, 200, 120, 16, 264, 40];

pub(super) fn cases(scale: Scale) -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in DType::ALL {
        for side in SIDES {
            cases.extend(edges(dtype, side));
            cases.extend(hard_values(dtype, side));
            cases.extend(splits(dtype, side));
        }
        let matrices = models::matrices(scale, 64).into_iter().filter(|weights| weights.fits(dtype));
        for (i, weights) in matrices.enumerate() {
            let shape = Shape::new(
                Kernel::Coop(SIDES[i % 2]),
                dtype,
                [weights.rows, weights.cols, if scale == Scale::Real { 130 } else { 9 + i }],
            );
            let weights_on_device = Shape {
                weights: Source::Device,
                ..shape.epilogue(i)
            };
            cases.push(weights.named(weights_on_device.case()));
        }
    }
    cases
}

/// Every number of rows with every number of tokens; the columns walk along.
fn edges(dtype: DType, side: u32) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut n = dtype as usize;
    for n_tokens in TOKENS {
        for (i, rows) in ROWS.into_iter().enumerate() {
            let shape = Shape::new(Kernel::Coop(side), dtype, [rows, COLS[n % COLS.len()], n_tokens]).epilogue(n + i);
            cases.push(shape.case().quick(n.is_multiple_of(4)));
            n += 1;
        }
    }
    cases
}

/// Each kind of value in x. In the matrix only what f16 can hold.
fn hard_values(dtype: DType, side: u32) -> Vec<Case> {
    let mut cases = Vec::new();
    for (i, x) in Fill::ALL.into_iter().filter(|&fill| fill != Fill::Plain).enumerate() {
        for n_tokens in [11, 70, 140] {
            let shape = Shape::new(Kernel::Coop(side), dtype, [75, 904, n_tokens]).epilogue(i + n_tokens);
            cases.push(Shape { x, ..shape }.case().quick(n_tokens == 70));
        }
    }
    cases
}

/// Matrices of more than [`crate::Mode::SMALL_BINDING`] bytes, so of several parts.
fn splits(dtype: DType, side: u32) -> Vec<Case> {
    let shapes = if dtype.is_quantised() {
        [[389, 384, 40], [300, 448, 12], [263, 576, 26], [103, 1344, 9], [400, 384, 30]]
    } else {
        [[197, 232, 67], [130, 904, 12], [259, 136, 41], [65, 1288, 9], [400, 104, 30]]
    };
    let case = |(i, shape): (usize, [usize; 3])| {
        let shape = Shape::new(Kernel::Coop(side), dtype, shape).epilogue(i);
        shape.split_case().quick(dtype == DType::BF16)
    };
    shapes.into_iter().enumerate().map(case).collect()
}
