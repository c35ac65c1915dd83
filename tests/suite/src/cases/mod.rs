//! All cases, one module per kernel, same stem as the kernel.

mod argmax;
mod attention;
mod attention_merge;
mod embed;
mod fill_random;
mod matmul;
mod matvec;
mod model;
mod models;
mod penalty;
mod places;
mod product;
mod rms_norm;
mod rope;
mod sample;
mod self_test;
mod silu_mul;
mod topk;

use crate::{Case, Scale};

/// Every case of every kernel.
#[must_use]
pub fn all(scale: Scale) -> Vec<Case> {
    let lists = [
        argmax::cases(),
        attention::cases(scale),
        attention_merge::cases(),
        embed::cases(scale),
        fill_random::cases(scale),
        matmul::cases(scale),
        matvec::cases(scale),
        model::cases(),
        penalty::cases(),
        rms_norm::cases(),
        rope::cases(),
        sample::cases(),
        self_test::cases(),
        silu_mul::cases(),
        topk::cases(),
    ];
    lists.into_iter().flatten().collect()
}

/// What a case's body gives.
type Checked = Result<crate::Outcome, crate::Failure>;
