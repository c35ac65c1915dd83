// The choice of experts, given the logits of all of them and of the shared one's gate: softmax over all experts, the k largest by rank.
// What a row of factors holds: p of the chosen, by rank, and sigmoid of the gate's logit behind them.
//
// Every kernel that chooses has these params and bindings in common. Header: WORKGROUP, MAX_EXPERTS, TOKENS: the most tokens that a
// workgroup chooses for. Needs shared/order.wgsl.

struct Params {
    vecs: u32,      // d_model / 4
    n_tokens: u32,
    n_experts: u32, // at most MAX_EXPERTS
    k: u32,         // at most n_experts
    eps: f32,
    inv_d: f32,     // 1 / d_model
    normalise: u32, // 1: the weights of the chosen add up to 1
    usage_at: u32,  // where the layer's counters begin
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> weights: array<vec4<f32>>; // [n_experts + 1, d_model], the shared gate's row last
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;       // [n_tokens, d_model]
@group(0) @binding(2) var<storage, read> norm: array<vec4<f32>>;    // [d_model]
@group(0) @binding(3) var<storage, read_write> logits: array<f32>;  // [n_tokens, n_experts + 1]
@group(0) @binding(4) var<storage, read_write> chosen: array<u32>;  // [n_tokens, k]
@group(0) @binding(5) var<storage, read_write> factors: array<f32>; // [n_tokens, k + 1]
@group(0) @binding(6) var<storage, read_write> usage: array<atomic<u32>>; // [n_layers, n_experts]

const KEYS: u32 = MAX_EXPERTS + 1u;
var<workgroup> sh_keys: array<u32, TOKENS * KEYS>;          // of the logits, in the order of choice
var<workgroup> sh_chosen: array<u32, TOKENS * MAX_EXPERTS>; // experts by rank, k of each token

// Hands in a logit of token number `t` of this workgroup. A workgroupBarrier() must follow before choose().
fn put_logit(t: u32, row: u32, logit: f32) {
    sh_keys[t * KEYS + row] = key_of(bitcast<u32>(logit));
}

// How many experts come before this one: those with a larger logit, and of those with the same the ones with a lower id. NaN is last.
fn rank_of(t: u32, expert: u32) -> u32 {
    let key = sh_keys[t * KEYS + expert];
    var rank = 0u;
    for (var other = 0u; other < params.n_experts; other++) {
        let other_key = sh_keys[t * KEYS + other];
        let before = other_key > key || (other_key == key && other < expert);
        rank += select(0u, 1u, before);
    }
    return rank;
}

// e^(logit - largest)
fn weight_of(t: u32, expert: u32) -> f32 {
    let largest = sh_keys[t * KEYS + sh_chosen[t * MAX_EXPERTS]];
    return exp(logit_of(sh_keys[t * KEYS + expert]) - logit_of(largest));
}

// What the weights of the chosen are divided by. p has all weights below the line; among the chosen that cancels out, and theirs alone
// are left there.
fn sum_of_weights(t: u32) -> f32 {
    var sum = 0.0;
    if params.normalise == 0u {
        for (var expert = 0u; expert < params.n_experts; expert++) {
            sum += weight_of(t, expert);
        }
    } else {
        for (var rank = 0u; rank < params.k; rank++) {
            sum += weight_of(t, sh_chosen[t * MAX_EXPERTS + rank]);
        }
    }
    return sum;
}

// Chooses for the first n_here tokens of this workgroup, the first of which is token0; the whole workgroup takes part.
fn choose(token0: u32, n_here: u32, index: u32) {
    for (var i = index; i < n_here * params.n_experts; i += WORKGROUP) {
        let t = i / params.n_experts;
        let expert = i % params.n_experts;
        let rank = rank_of(t, expert);
        if rank < params.k {
            sh_chosen[t * MAX_EXPERTS + rank] = expert;
            chosen[(token0 + t) * params.k + rank] = expert;
            atomicAdd(&usage[params.usage_at + expert], 1u);
        }
    }
    workgroupBarrier(); // every rank has its expert
    for (var i = index; i < n_here * (params.k + 1u); i += WORKGROUP) {
        let t = i / (params.k + 1u);
        let rank = i % (params.k + 1u);
        var factor = 0.0;
        if rank < params.k {
            factor = weight_of(t, sh_chosen[t * MAX_EXPERTS + rank]) / sum_of_weights(t);
        } else {
            // e^80 is finite in f32, and its inverse vanishes beside any expert's weight
            factor = 1.0 / (1.0 + exp(min(-logit_of(sh_keys[t * KEYS + params.n_experts]), 80.0)));
        }
        factors[token0 * (params.k + 1u) + i] = factor;
    }
}
