// Slots of a token in the mixture of experts: the first params.k are its chosen experts, by rank, those behind them the slices of the
// shared expert, which stand in the stack behind all that are chosen from.
//
// The kernel has `chosen`, the token's [k], and of its params k, n_experts, first_expert and n_here: which experts of the stack its part
// of the weights holds.

const ELSEWHERE: u32 = 0xffffffffu;

// Where in this part of the stack the expert of a slot stands, or ELSEWHERE.
fn expert_here(slot: u32) -> u32 {
    var expert = params.n_experts + slot - params.k;
    if slot < params.k {
        expert = chosen[slot];
    }
    let here = expert - params.first_expert; // wraps round below the first
    return select(ELSEWHERE, here, here < params.n_here);
}
