//! Mat-vec: every weight type, workgroup and token count, sizes around every step of rows and columns, epilogues, split matrices.

use qwgpu_runtime::{DType, kernels::share::Share};

use super::{
    models,
    product::{Kernel, Shape, Source},
};
use crate::{Case, Scale, fill::Fill};

/// The workgroups that the kernel is compiled for: an adapter's own choice is one of them.
const WORKGROUPS: [u32; 2] = [32, 64];
/// Every share of a workgroup for one token, but for those of the workgroups above.
const SHARES: [Share; 9] = [
    share(128, 4),
    share(8, 32),
    share(64, 2),
    share(128, 1),
    share(256, 4),
    share(64, 1),
    share(256, 2),
    share(128, 2),
    share(256, 1),
];

const fn share(workgroup: u32, rows: u32) -> Share {
    Share { workgroup, rows }
}
const MAX_TOKENS: usize = 8;
/// Around the 2, 4 or 32 rows of a workgroup, and primes.
const ROWS: [usize; 12] = [13, 1, 33, 2, 67, 3, 4, 31, 5, 7, 8, 9];
/// Around the 256 or 512 columns of a step, and what leaves a tail after two steps and more.
const COLS: [usize; 13] = [1288, 8, 256, 1544, 24, 264, 520, 16, 248, 776, 504, 512, 1032];
/// More workgroups, of 4 or 2 rows each, than the 65,535 that one dimension of a dispatch usually may have; in two equal halves.
const FOLDED: [(usize, usize); 2] = [(262_151, 1), (131_099, 3)];

pub(super) fn cases(scale: Scale) -> Vec<Case> {
    let mut cases = folded();
    for dtype in DType::ALL {
        for workgroup in WORKGROUPS {
            let kernel = Kernel::Matvec(workgroup);
            cases.extend(edges(kernel, dtype));
            cases.extend(hard_values(kernel, dtype));
        }
        cases.extend(SHARES.into_iter().flat_map(|share| step(share, dtype)));
        cases.extend(tiles(dtype));
        cases.extend(splits(Kernel::Matvec(64), dtype)); // the host splits alike for both
        for n_tokens in 1..=MAX_TOKENS {
            let shape = Shape::new(Kernel::Chosen, dtype, [n_tokens + 17, 328, n_tokens]).epilogue(n_tokens);
            cases.push(shape.case());
        }
        let matrices = models::matrices(scale, 4).into_iter().filter(|weights| weights.fits(dtype));
        for (i, weights) in matrices.enumerate() {
            let kernel = Kernel::Matvec(WORKGROUPS[i / 8 % 2]);
            let shape = Shape::new(kernel, dtype, [weights.rows, weights.cols, 1 + i % MAX_TOKENS]).epilogue(i);
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
    cases
}

/// Whether the quick tier compiles what computes this, which takes CPU drivers longer than running it: every form for one type of
/// weights, and for the others enough to meet each way of reading, adding and sharing out.
const fn is_quick(kernel: Kernel, dtype: DType, n_tokens: usize) -> bool {
    match (dtype, kernel) {
        (DType::BF16, Kernel::Matvec(64)) => true,
        (DType::F32, Kernel::Matvec(32)) => matches!(n_tokens, 1 | 3 | 4),
        (DType::F16, Kernel::Matvec(32)) => n_tokens == 2,
        (DType::F16, Kernel::Matvec(64)) => n_tokens == 1,
        (DType::Q8, Kernel::Matvec(32)) => n_tokens == 1,
        (DType::Q4, Kernel::Matvec(64)) => matches!(n_tokens, 3 | 4),
        _ => false,
    }
}

/// Every number of rows with every number of tokens; the columns walk along.
fn edges(kernel: Kernel, dtype: DType) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut n = dtype as usize;
    for n_tokens in 1..=MAX_TOKENS {
        for (i, rows) in ROWS.into_iter().enumerate() {
            let shape = Shape::new(kernel, dtype, [rows, COLS[n % COLS.len()], n_tokens]).epilogue(n + i);
            cases.push(shape.case().quick(is_quick(kernel, dtype, n_tokens)));
            n += 1;
        }
    }
    cases
}

/// One token: every number of rows, and columns that leave most invocations of a wide workgroup without work.
fn step(share: Share, dtype: DType) -> Vec<Case> {
    let columns = COLS.into_iter().chain([4864, 2056]);
    let case = |(i, cols): (usize, usize)| {
        let shape = Shape::new(Kernel::Step(share), dtype, [ROWS[i % ROWS.len()], cols, 1]).epilogue(i);
        shape
            .case()
            .quick(dtype == DType::BF16 && (share == SHARES[0] || share == SHARES[1] && i < 4))
    };
    columns.enumerate().map(case).collect()
}

/// Several tokens by rows, two at a time; and batches about as large as a CPU driver's own choice of kernel takes.
fn tiles(dtype: DType) -> Vec<Case> {
    let by_rows = (1..=MAX_TOKENS).map(|n_tokens| (Kernel::Step(SHARES[1]), n_tokens));
    let chosen = [9, 24, 31, 32, 33].map(|n_tokens| (Kernel::Chosen, n_tokens));
    let case = |(i, (kernel, n_tokens)): (usize, (Kernel, usize))| {
        let shape = Shape::new(kernel, dtype, [ROWS[i % ROWS.len()], COLS[(i + 5) % COLS.len()], n_tokens]).epilogue(i);
        shape.case().quick(dtype == DType::BF16 || i % 4 == dtype as usize % 4)
    };
    by_rows.chain(chosen).enumerate().map(case).collect()
}

/// Grids of two dimensions. One mode is enough: it is the same in every text, and so many workgroups take CPU drivers long.
fn folded() -> Vec<Case> {
    let mut cases = Vec::new();
    for (rows, n_tokens) in FOLDED {
        for workgroup in WORKGROUPS {
            let shape = Shape::new(Kernel::Matvec(workgroup), DType::BF16, [rows, 8, n_tokens]).epilogue(1); // so that poison shows a gap
            cases.push(shape.case().over(&[]).quick(workgroup == 64 && n_tokens == 1));
        }
    }
    cases
}

/// Each kind of value, in the vectors and in the matrix.
fn hard_values(kernel: Kernel, dtype: DType) -> Vec<Case> {
    let mut cases = Vec::new();
    for (i, fill) in Fill::ALL.into_iter().filter(|&fill| fill != Fill::Plain).enumerate() {
        for (j, n_tokens) in [1, 3, 8].into_iter().enumerate() {
            let shape = Shape::new(kernel, dtype, [11, 904, n_tokens]).epilogue(i + j);
            let quick = is_quick(kernel, dtype, n_tokens);
            cases.push(Shape { x: fill, ..shape }.case().quick(quick));
            let weights = Source::Host(fill);
            cases.push(Shape { weights, ..shape }.case().quick(quick));
        }
    }
    cases
}

/// Matrices of more than [`crate::Mode::SMALL_BINDING`] bytes, so of several parts.
fn splits(kernel: Kernel, dtype: DType) -> Vec<Case> {
    let shapes = [[127, 1160, 1], [151, 904, 2], [259, 520, 3], [103, 1288, 8]];
    let case = |(i, shape): (usize, [usize; 3])| {
        Shape::new(kernel, dtype, shape)
            .epilogue(3 - i)
            .split_case()
            .quick(i == 2 && dtype == DType::BF16)
    };
    shapes.into_iter().enumerate().map(case).collect()
}
