//! One token's q, k and v with the norm and integer dot products in one: both quantised types, sizes around every step of columns,
//! positions at the borders of blocks, and that nothing else in the cache is touched. What is common with the other kernels is in
//! [`super::norm_qkv_rope`].

use qwgpu_runtime::{DType, Elem, kernels::norm_qkv_rope_dot::NormQkvRopeDot};

use super::{
    norm_qkv_rope::{HEADS, Kernel, POSITIONS, Shape},
    normed::share,
    product::Source,
};
use crate::{Case, Scale, fill::Fill};

/// Around the 1024 columns of a step, and the most that there may be.
const COLS: [usize; 8] = [1088, 64, 960, NormQkvRopeDot::MOST_COLUMNS, 448, 1024, 3584, 2112];
/// More units of 16 rows than the 65,535 workgroups that one dimension of a dispatch usually may have, and no multiple of three.
const FOLDED: (usize, usize, usize) = (8191, 1, 128);

fn shape(dtype: DType, kv: Elem, heads: (usize, usize, usize), d_model: usize) -> Shape {
    Shape {
        kernel: Kernel::NormDot,
        ..Shape::new(share(256, 16), dtype, kv, heads, d_model)
    }
}

pub(super) fn cases(scale: Scale) -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in [DType::Q8, DType::Q4] {
        for kv in [Elem::F32, Elem::F16] {
            for (i, heads) in HEADS.into_iter().enumerate() {
                let case = shape(dtype, kv, heads, COLS[i % COLS.len()]).case();
                cases.push(case.quick(i < 3 || (kv == Elem::F32 && i == 3)));
            }
        }
        for (i, pos) in POSITIONS.into_iter().enumerate() {
            let shape = shape(dtype, Elem::F32, HEADS[2 + i % 2], 256);
            cases.push(Shape { pos, ..shape }.case().quick(dtype == DType::Q8));
        }
        for fill in Fill::ALL.into_iter().filter(|&fill| fill != Fill::Plain) {
            let shape = shape(dtype, Elem::F32, HEADS[0], 896);
            cases.push(Shape { x: fill, ..shape }.case().quick(dtype == DType::Q4));
            cases.push(Shape { norm: fill, ..shape }.case().quick(dtype == DType::Q4));
        }
    }
    // one mode is enough: a grid of two dimensions is the same in every text. A million rows take a CPU driver a minute
    cases.push(shape(DType::Q8, Elem::F32, FOLDED, 64).case().over(&[]));
    if scale == Scale::Real {
        for dtype in [DType::Q8, DType::Q4] {
            let shape = shape(dtype, Elem::F16, (28, 4, 128), 3584);
            let weights = Source::Device;
            cases.push(Shape { weights, ..shape }.case());
        }
    }
    cases
}
