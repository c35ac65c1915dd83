//! Tiled products with a stack of experts: every weight type, numbers of rows around every tile edge, experts without rows and with all
//! of them, split stacks, the experts of real models.

use qwgpu_runtime::DType;

use super::{
    grouped::{DIRECTIONS, Kernel, Shape, Stack},
    product::Source,
};
use crate::{Case, Scale, fill::Fill, routing::Routing};

/// Around the 64 tokens of a tile: what an expert has that all tokens choose.
const TOKENS: [usize; 13] = [67, 1, 16, 130, 2, 63, 9, 64, 17, 3, 129, 65, 31];
/// Around the 64 rows of a tile.
const ROWS: [usize; 7] = [67, 1, 64, 24, 65, 130, 15];
/// Around the 32 columns of a slab.
const COLS: [usize; 7] = [136, 8, 32, 72, 24, 64, 40];
/// k, experts, slices of the shared one.
const STACKS: [[usize; 3]; 6] = [[2, 5, 1], [1, 3, 0], [3, 8, 2], [1, 4, 1], [4, 4, 0], [2, 9, 3]];

/// The experts of a model: its name, k, experts and slices of the shared one, then rows and columns of one of its matrices.
type Model = (&'static str, [usize; 3], [usize; 2]);

const MODELS: [Model; 4] = [
    ("57B-A14B gate and up", [8, 64, 8], [5120, 3584]),
    ("57B-A14B down", [8, 64, 8], [3584, 2560]),
    ("1.5-MoE-A2.7B gate and up", [4, 60, 4], [2816, 2048]),
    ("1.5-MoE-A2.7B down", [4, 60, 4], [2048, 1408]),
];
/// Bytes of a stack at most: 57B's take that in half precision.
const MAX_BYTES: usize = 2_700_000_000;

pub(super) fn cases(scale: Scale) -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in DType::ALL {
        cases.extend(edges(Kernel::Tiled, dtype, &TOKENS));
        cases.extend(hard_values(Kernel::Tiled, dtype));
        cases.extend(splits(Kernel::Tiled, dtype));
        cases.extend(models(Kernel::Tiled, dtype, scale));
        for (n_tokens, direction) in [90, 70].into_iter().zip(DIRECTIONS) {
            let shape = Shape::new(Kernel::Chosen, dtype, Stack::new(STACKS[0]), [40, 72, n_tokens]);
            let case = Shape { direction, ..shape }.case();
            cases.push(case.quick(dtype == DType::BF16));
        }
    }
    cases
}

/// Every number of tokens with every kind of choice in both directions; rows, columns and stacks walk along.
pub(super) fn edges(kernel: Kernel, dtype: DType, tokens: &[usize]) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut n = dtype as usize;
    for &n_tokens in tokens {
        for (routing, direction) in Routing::ALL.into_iter().flat_map(|routing| DIRECTIONS.map(|d| (routing, d))) {
            let sizes = [ROWS[n % ROWS.len()], COLS[n / 2 % COLS.len()], n_tokens];
            let shape = Shape::new(kernel, dtype, Stack::new(STACKS[n / 3 % STACKS.len()]), sizes);
            let case = Shape {
                routing,
                direction,
                ..shape
            }
            .case();
            cases.push(case.quick(n.is_multiple_of(5)));
            n += 1;
        }
    }
    cases
}

/// Each kind of value in x: 3e5 in one place among them.
pub(super) fn hard_values(kernel: Kernel, dtype: DType) -> Vec<Case> {
    let mut cases = Vec::new();
    for x in Fill::ALL.into_iter().filter(|&fill| fill != Fill::Plain) {
        for direction in DIRECTIONS {
            let shape = Shape::new(kernel, dtype, Stack::new([2, 5, 1]), [40, 904, 33]);
            cases.push(Shape { x, direction, ..shape }.case().quick(x == Fill::Outlier));
        }
    }
    cases
}

/// Stacks of more than [`crate::Mode::SMALL_BINDING`] bytes, two or three experts to a part.
pub(super) fn splits(kernel: Kernel, dtype: DType) -> Vec<Case> {
    let (rows, cols) = match dtype {
        DType::F32 => (40, 136),
        DType::F16 | DType::BF16 => (80, 136),
        DType::Q8 => (100, 192),
        DType::Q4 => (101, 384),
    };
    let mut cases = Vec::new();
    for (stack, n_tokens) in [([3, 9, 1], 8), ([1, 7, 0], 31), ([2, 4, 4], 5)] {
        for direction in DIRECTIONS {
            let shape = Shape::new(kernel, dtype, Stack::new(stack), [rows, cols, n_tokens]);
            let case = Shape { direction, ..shape }.split_case();
            cases.push(case.quick(matches!(dtype, DType::BF16 | DType::Q4)));
        }
    }
    cases
}

/// Real experts; [`Scale::Cut`] leaves eight of them and two slices, and few rows.
pub(super) fn models(kernel: Kernel, dtype: DType, scale: Scale) -> Vec<Case> {
    let mut cases = Vec::new();
    for (i, (name, stack, [rows, cols])) in MODELS.into_iter().enumerate() {
        let (stack, rows, n_tokens) = match scale {
            Scale::Real => (stack, rows, 200 + i),
            Scale::Cut => ([3, 8, 2], 70 + i, 24),
        };
        if dtype.row_bytes((stack[1] + stack[2] + 1) * rows * cols) > MAX_BYTES {
            continue;
        }
        let shape = Shape {
            direction: DIRECTIONS[i % 2],
            weights: Source::Device,
            ..Shape::new(kernel, dtype, Stack::new(stack), [rows, cols, n_tokens])
        };
        let mut case = shape.case();
        case.name = format!("{name}, {}", case.name);
        cases.push(case);
    }
    cases
}
