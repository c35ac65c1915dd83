//! Products with a stack of experts on matrix units: every weight type and grid of subgroups, and what [`super::matmul_experts`] tries.

use qwgpu_runtime::DType;

use super::{
    grouped::Kernel,
    matmul_experts::{edges, hard_values, models, splits},
};
use crate::{Case, Scale};

/// Around the 64 or 128 tokens of a tile, its blocks of 32 and matrices of 16, and more than the 8 tiles of a band.
const TOKENS: [usize; 13] = [131, 1, 16, 17, 31, 33, 63, 64, 65, 127, 128, 129, 577];

pub(super) fn cases(scale: Scale) -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in DType::ALL {
        // tiles of 64 and of 128 outputs each way
        for kernel in [2, 4].map(Kernel::Coop) {
            cases.extend(edges(kernel, dtype, &TOKENS));
            cases.extend(hard_values(kernel, dtype));
            cases.extend(splits(kernel, dtype));
        }
        cases.extend(models(Kernel::Coop(2 + 2 * (dtype as u32 % 2)), dtype, scale));
    }
    cases
}
