//! All cases, one module per kernel, same stem as the kernel.

mod argmax;
mod attention;
mod attention_merge;
mod embed;
mod fill_random;
mod matmul;
mod penalty;
mod rms_norm;
mod rope;
mod self_test;
mod silu_mul;
mod topk;

use crate::{Case, Scale};

/// Every case of every kernel.
#[must_use]
pub fn all(_scale: Scale) -> Vec<Case> {
    let lists = [
        argmax::cases(),
        attention::cases(),
        attention_merge::cases(),
        embed::cases(),
        fill_random::cases(),
        matmul::cases(),
        penalty::cases(),
        rms_norm::cases(),
        rope::cases(),
        self_test::cases(),
        silu_mul::cases(),
        topk::cases(),
    ];
    lists.into_iter().flatten().collect()
}

/// What a case's body gives.
type Checked = Result<crate::Outcome, crate::Failure>;
