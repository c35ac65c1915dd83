//! The rows of each expert, for a short prompt and for a chunk.

use qwgpu_runtime::{
    Gpu,
    kernels::group_experts::{GroupExperts, Groups},
};

use super::{BenchCase, data, shapes};
use crate::routing::Routing;

pub(super) fn cases(gpu: &Gpu) -> Vec<BenchCase> {
    let experts = shapes::experts(gpu);
    let case = |n_tokens: usize| {
        let shapes::Experts {
            name,
            n_experts,
            k,
            n_shared,
            ..
        } = experts;
        let (n_slots, n_stack) = (experts.n_slots(), experts.n_stack());
        let name = format!("{name} {n_tokens} tokens, {k} of {n_experts} experts and {n_shared}");
        let bytes = 4 * (n_tokens * (k + n_slots) + n_stack + 1);
        BenchCase::new("group_experts", name, (bytes, n_tokens * n_slots), move |gpu, copies| {
            let kernel = GroupExperts::new(gpu)?;
            let ids = Routing::Spread.chosen(n_tokens, k, n_experts);
            let chosen = data::words(gpu, copies, [n_tokens, k], |_| ids.clone())?;
            let groups = Groups::new(gpu, n_tokens, n_slots, n_stack)?;
            Ok(Box::new(move |pass, i| {
                kernel.dispatch(pass, &chosen[i], n_experts, n_shared, &groups)
            }))
        })
    };
    [64, 512].map(case).into()
}
