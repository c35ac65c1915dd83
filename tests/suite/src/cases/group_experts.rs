//! Lists of rows by expert: exact, from even choices to all tokens at one expert.

use qwgpu_runtime::{
    Elem, Gpu, Pass, Tensor,
    kernels::group_experts::{self, GroupExperts, Groups},
};

use super::Checked;
use crate::{Case, Guarded, compare, routing::Routing};

/// Tokens, k, experts, slices of the shared one: around the 256 invocations of a workgroup and multiples of it, k of k, one of one.
const SHAPES: [[usize; 4]; 22] = [
    [1, 1, 1, 0],
    [1, 8, 64, 8],
    [2, 4, 60, 4],
    [5, 2, 8, 0],
    [31, 8, 64, 8],
    [32, 8, 64, 8],
    [33, 8, 64, 8],
    [40, 6, 6, 2],
    [63, 4, 60, 4],
    [64, 4, 60, 4],
    [100, 3, 10, 1],
    [255, 1, 4, 1],
    [256, 1, 3, 2],
    [257, 1, 2, 0],
    [300, 1, 1, 1],
    [512, 8, 64, 8],
    [513, 4, 60, 4],
    [1000, 2, 16, 1],
    [2048, 8, 64, 8],
    [4097, 8, 64, 8],
    [65_535, 1, 5, 2],
    [65_535, 8, 64, 8],
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for [n_tokens, k, n_experts, n_shared] in SHAPES {
        for routing in Routing::ALL {
            let name = format!("{n_tokens} tokens, {k} of {n_experts} experts and {n_shared}, {routing}");
            let check = move |gpu: &Gpu| check(gpu, [n_tokens, k, n_experts, n_shared], routing);
            let quick = n_tokens < 2048 || (n_tokens == 65_535 && k == 1 && routing == Routing::Hot);
            cases.push(Case::new("group_experts", name, move |gpu| check(gpu)).quick(quick));
        }
    }
    cases
}

fn check(gpu: &Gpu, [n_tokens, k, n_experts, n_shared]: [usize; 4], routing: Routing) -> Checked {
    let (n_slots, n_stack) = (k + n_shared, n_experts + n_shared);
    let ids = routing.chosen(n_tokens, k, n_experts);
    // behind the last row more tokens choose, which must not be counted
    let whole = Tensor::new(gpu, "chosen", n_tokens + 2, k, Elem::U32)?;
    let chosen = whole.narrow(n_tokens);
    chosen.write(gpu, &ids);
    let pairs = Guarded::new(gpu, n_tokens, n_slots, Elem::U32)?;
    let offsets = Guarded::new(gpu, 1, n_stack + 1, Elem::U32)?;
    let groups = Groups {
        pairs: pairs.out().clone(),
        offsets: offsets.out().clone(),
    };
    let kernel = GroupExperts::new(gpu)?;
    let mut pass = Pass::new(gpu);
    kernel.dispatch(&mut pass, &chosen, n_experts, n_shared, &groups);
    pass.submit();
    let (expected_pairs, expected_offsets) = group_experts::reference(&ids, k, n_experts, n_shared);
    let found = offsets.read_u32(gpu)?;
    let outcome = compare::exact("offsets", n_stack + 1, &found, &expected_offsets)?;
    let found = pairs.read_u32(gpu)?;
    Ok(outcome.and(compare::exact("pairs", n_slots, &found, &expected_pairs)?))
}
