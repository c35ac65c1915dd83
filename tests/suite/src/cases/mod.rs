//! All cases, one module per kernel, same stem as the kernel.

mod argmax;
mod attention;
mod attention_merge;
mod combine_experts;
mod embed;
mod embed_step;
mod experts_down;
mod experts_down_dot;
mod experts_gate_up;
mod experts_gate_up_dot;
mod fill_random;
mod gate_up_bytes;
mod gate_up_dot;
mod group_experts;
mod grouped;
mod matmul;
mod matmul_coop;
mod matmul_experts;
mod matmul_experts_coop;
mod matvec;
mod matvec_dot;
mod model;
mod models;
mod norm_gate_up;
mod norm_qkv_rope;
mod norm_qkv_rope_dot;
mod norm_quantize;
mod norm_to_f16;
mod normed;
mod penalty;
mod places;
mod product;
mod qkv_rope_dot;
mod rms_norm;
mod rope;
mod router;
mod router_decode;
mod sample;
mod self_test;
mod silu_mul;
mod silu_mul_to_f16;
mod slots;
mod to_f16;
mod topk;

use crate::{Case, Scale};

/// Every case of every kernel.
#[must_use]
pub fn all(scale: Scale) -> Vec<Case> {
    let lists = [
        argmax::cases(),
        attention::cases(scale),
        attention_merge::cases(),
        combine_experts::cases(),
        embed::cases(scale),
        embed_step::cases(),
        experts_down::cases(scale),
        experts_down_dot::cases(),
        experts_gate_up::cases(scale),
        experts_gate_up_dot::cases(),
        fill_random::cases(scale),
        gate_up_bytes::cases(),
        gate_up_dot::cases(),
        group_experts::cases(),
        matmul::cases(scale),
        matmul_coop::cases(scale),
        matmul_experts::cases(scale),
        matmul_experts_coop::cases(scale),
        matvec::cases(scale),
        matvec_dot::cases(),
        model::cases(),
        norm_gate_up::cases(scale),
        norm_qkv_rope::cases(scale),
        norm_quantize::cases(),
        norm_to_f16::cases(),
        penalty::cases(),
        qkv_rope_dot::cases(scale),
        norm_qkv_rope_dot::cases(scale),
        rms_norm::cases(),
        rope::cases(),
        router::cases(),
        router_decode::cases(),
        sample::cases(),
        self_test::cases(),
        silu_mul::cases(),
        silu_mul_to_f16::cases(),
        to_f16::cases(),
        topk::cases(),
    ];
    lists.into_iter().flatten().collect()
}

/// What a case's body gives.
type Checked = Result<crate::Outcome, crate::Failure>;
