//! One token's q, k and v with integer dot products: both quantised types, every form, sizes around every step of rows and columns,
//! positions at the borders of blocks, and that nothing else in the cache is touched. What is common with the f32 kernel is in
//! [`super::norm_qkv_rope`].

use qwgpu_runtime::{
    DType, Elem,
    kernels::{qkv_rope_dot::QkvRopeDot, share::Share},
};

use super::{
    norm_qkv_rope::{FOLDED, HEADS, Kernel, POSITIONS, Shape},
    normed::share,
    product::Source,
};
use crate::{Case, Scale, fill::Fill};

/// The first is what GPUs use.
const SHARES: [Share; 6] = [
    QkvRopeDot::SHARE,
    share(128, 4),
    share(64, 4),
    share(128, 2),
    share(32, 2),
    share(32, 4),
];
/// Around the 1024, 2048 and 4096 columns of a step, and what leaves most invocations without work.
const COLS: [usize; 8] = [1088, 64, 960, 1024, 4160, 448, 4032, 2112];

fn shape(share: Share, dtype: DType, kv: Elem, heads: (usize, usize, usize), d_model: usize) -> Shape {
    Shape {
        kernel: Kernel::Dot,
        ..Shape::new(share, dtype, kv, heads, d_model)
    }
}

pub(super) fn cases(scale: Scale) -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in [DType::Q8, DType::Q4] {
        for kv in [Elem::F32, Elem::F16] {
            for (i, share) in SHARES.into_iter().enumerate() {
                for (j, heads) in [HEADS[0], HEADS[1]].into_iter().enumerate() {
                    let case = shape(share, dtype, kv, heads, COLS[(2 * i + j) % COLS.len()]).case();
                    cases.push(case.quick(i < 2 || (kv == Elem::F32 && j == 1)));
                }
            }
        }
        for (i, heads) in HEADS.into_iter().enumerate().skip(2) {
            let case = shape(SHARES[i % 2], dtype, Elem::F32, heads, COLS[i % COLS.len()]).case();
            cases.push(case.quick(i % 2 == 0));
        }
        for (i, pos) in POSITIONS.into_iter().enumerate() {
            let shape = shape(SHARES[0], dtype, Elem::F32, HEADS[2 + i % 2], 256);
            cases.push(Shape { pos, ..shape }.case().quick(dtype == DType::Q8));
        }
        for (i, fill) in Fill::ALL.into_iter().filter(|&fill| fill != Fill::Plain).enumerate() {
            let shape = shape(SHARES[i % 2], dtype, Elem::F32, HEADS[0], 896);
            cases.push(Shape { x: fill, ..shape }.case().quick(dtype == DType::Q4));
            cases.push(Shape { norm: fill, ..shape }.case().quick(dtype == DType::Q4));
        }
    }
    // more workgroups than one dimension of a dispatch has; one mode is enough
    cases.push(shape(SHARES[0], DType::Q8, Elem::F32, FOLDED, 64).case().over(&[]).quick(true));
    if scale == Scale::Real {
        for dtype in [DType::Q8, DType::Q4] {
            let shape = shape(SHARES[0], dtype, Elem::F16, (64, 8, 128), 8192);
            let weights = Source::Device;
            cases.push(Shape { weights, ..shape }.case());
        }
    }
    cases
}
