//! Tiled products: every weight type, sizes around every tile edge, epilogues, split matrices, the matrices of real models.

use qwgpu_runtime::DType;

use super::{
    models,
    product::{Kernel, Shape, Source},
};
use crate::{Case, Scale, fill::Fill};

/// Around the 64 tokens of a tile and the 16 of a quarter of it, and primes.
const TOKENS: [usize; 18] = [67, 1, 16, 130, 2, 63, 9, 64, 17, 3, 127, 8, 65, 15, 129, 31, 48, 191];
/// The same for rows.
const ROWS: [usize; 13] = [131, 1, 64, 17, 63, 16, 193, 65, 15, 127, 33, 128, 100];
/// Around the 32 columns of a slab; all multiples of 8.
const COLS: [usize; 14] = [136, 8, 32, 200, 24, 64, 40, 520, 16, 56, 104, 264, 72, 96];

pub(super) fn cases(scale: Scale) -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in DType::ALL {
        cases.extend(edges(dtype));
        cases.extend(hard_values(dtype));
        cases.extend(splits(dtype));
        for n_tokens in [9, 64, 66] {
            let shape = Shape::new(Kernel::Chosen, dtype, [n_tokens + 3, 168, n_tokens]).epilogue(n_tokens);
            cases.push(shape.case().quick(dtype == DType::BF16 && n_tokens == 9));
        }
        let matrices = models::matrices(scale, 64).into_iter().filter(|weights| weights.fits(dtype));
        for (i, weights) in matrices.enumerate() {
            for n_tokens in [9 + i, if scale == Scale::Real { 130 } else { 64 - i }] {
                let shape = Shape::new(Kernel::Tiled, dtype, [weights.rows, weights.cols, n_tokens]).epilogue(i);
                cases.push(
                    weights.named(
                        Shape {
                            weights: Source::Device,
                            ..shape
                        }
                        .case(),
                    ),
                );
            }
        }
    }
    cases
}

/// Every number of rows with every number of tokens; the columns walk along.
fn edges(dtype: DType) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut n = dtype as usize;
    for n_tokens in TOKENS {
        for (i, rows) in ROWS.into_iter().enumerate() {
            let shape = Shape::new(Kernel::Tiled, dtype, [rows, COLS[n % COLS.len()], n_tokens]).epilogue(n + i);
            cases.push(shape.case().quick(n.is_multiple_of(4)));
            n += 1;
        }
    }
    cases
}

/// Each kind of value, in x and in the matrix.
fn hard_values(dtype: DType) -> Vec<Case> {
    let mut cases = Vec::new();
    for (i, fill) in Fill::ALL.into_iter().filter(|&fill| fill != Fill::Plain).enumerate() {
        for (j, n_tokens) in [11, 70].into_iter().enumerate() {
            let shape = Shape::new(Kernel::Tiled, dtype, [75, 904, n_tokens]).epilogue(i + j);
            let quick = i % 2 == j;
            cases.push(Shape { x: fill, ..shape }.case().quick(quick));
            let weights = Source::Host(fill);
            cases.push(Shape { weights, ..shape }.case().quick(quick));
        }
    }
    cases
}

/// Matrices of more than [`crate::Mode::SMALL_BINDING`] bytes, so of several parts.
fn splits(dtype: DType) -> Vec<Case> {
    let shapes = if dtype.is_quantised() {
        [[389, 384, 40], [300, 448, 12], [263, 576, 26], [103, 1344, 9], [400, 384, 30]]
    } else {
        [[197, 232, 67], [130, 904, 12], [259, 136, 41], [65, 1288, 9], [400, 104, 30]]
    };
    let case = |(i, shape): (usize, [usize; 3])| {
        let shape = Shape::new(Kernel::Tiled, dtype, shape).epilogue(i);
        shape.split_case().quick(dtype == DType::BF16)
    };
    shapes.into_iter().enumerate().map(case).collect()
}
