//! The choice of experts for few tokens, a workgroup a logit: the cases of [`super::router`].

use super::router::{Kernel, cases_of};
use crate::Case;

/// Around the 1024 columns of a load, the 4096 of four, and the models' widths.
const D_MODEL: [usize; 10] = [264, 8, 1032, 1024, 4104, 2048, 1016, 3584, 8192, 4088];
/// All that one dispatch takes last.
const TOKENS: [usize; 3] = [1, 3, 16];

pub(super) fn cases() -> Vec<Case> {
    cases_of(Kernel::Decode, &D_MODEL, &TOKENS)
}
