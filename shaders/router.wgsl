// The experts of each token and their weights: RMS norm, logits of all experts and of the shared one's gate, softmax over all experts,
// the k largest by rank. What a row of factors holds: p of the chosen, by rank, and sigmoid of the gate's logit behind them.
//
// One workgroup owns one token, and one invocation an expert once the logits are there. Rows of the matrix go by in runs of N_ROWS, for
// which there is room in workgroup memory. As in shared/norm_rows.wgsl the norm's factor is left for the sums.
// Header: WORKGROUP, MAX_EXPERTS = WORKGROUP, N_ROWS, N_SUMS = N_ROWS + 1: the last sum is that of the squares.

struct Params {
    vecs: u32,      // d_model / 4
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

var<workgroup> sh_logits: array<f32, MAX_EXPERTS + 1u>;
var<workgroup> sh_keys: array<u32, MAX_EXPERTS + 1u>; // of the logits, in the order of choice

// Every invocation hands in its share of N_ROWS logits and of the squares. A workgroupBarrier() must follow.
fn put_logits(token: u32, first: u32, inv: Invocation) {
    var squares = 0.0;
    var sums: array<f32, N_ROWS>;
    for (var i = inv.index; i < params.vecs; i += WORKGROUP) {
        let v = x[token * params.vecs + i];
        squares += dot(v, v);
        let weighted = v * norm[i];
        for (var r = 0u; r < N_ROWS; r++) {
            // past the last row the last one is read again; its sums are not used
            let row = min(first + r, params.n_experts);
            sums[r] += dot(weights[row * params.vecs + i], weighted);
        }
    }
    for (var r = 0u; r < N_ROWS; r++) {
        put_partial(r, sums[r], inv);
    }
    put_partial(N_ROWS, squares, inv);
}

// How many experts come before this one: those with a larger logit, and of those with the same the ones with a lower id. NaN is last.
fn rank_of(expert: u32) -> u32 {
    let key = sh_keys[expert];
    var rank = 0u;
    for (var other = 0u; other < params.n_experts; other++) {
        let before = sh_keys[other] > key || (sh_keys[other] == key && other < expert);
        rank += select(0u, 1u, before);
    }
    return rank;
}

fn largest_logit() -> f32 {
    var key = 0u;
    for (var expert = 0u; expert < params.n_experts; expert++) {
        key = max(key, sh_keys[expert]);
    }
    return logit_of(key);
}

@compute @workgroup_size(WORKGROUP)
fn main(inv: Invocation) {
    let token = inv.group.x;
    for (var first = 0u; first <= params.n_experts; first += N_ROWS) {
        put_logits(token, first, inv);
        workgroupBarrier(); // every share of every sum is in place
        let row = first + inv.index;
        if inv.index < N_ROWS && row <= params.n_experts {
            let factor = 1.0 / sqrt(sum_partials(N_ROWS, inv) * params.inv_d + params.eps);
            let logit = sum_partials(inv.index, inv) * factor;
            sh_logits[row] = logit;
            sh_keys[row] = key_of(bitcast<u32>(logit));
            logits[token * (params.n_experts + 1u) + row] = logit;
        }
        workgroupBarrier(); // the sums have been used up, the logits are in place
    }
    let expert = inv.index;
    var rank = params.n_experts;
    var weight = 0.0;
    if expert < params.n_experts {
        rank = rank_of(expert);
        weight = exp(sh_logits[expert] - largest_logit());
    }
    let is_chosen = rank < params.k;
    // p has all weights below the line; among the chosen that cancels out, and theirs alone are left there
    put_partial(0u, select(0.0, weight, is_chosen || params.normalise == 0u), inv);
    workgroupBarrier(); // every share of the sum is in place
    let row = token * (params.k + 1u);
    if is_chosen {
        chosen[token * params.k + rank] = expert;
        factors[row + rank] = weight / sum_partials(0u, inv);
        atomicAdd(&usage[params.usage_at + expert], 1u);
    }
    if inv.index == 0u {
        // e^80 is finite in f32, and its inverse vanishes beside any expert's weight
        factors[row + params.k] = 1.0 / (1.0 + exp(min(-sh_logits[params.n_experts], 80.0)));
    }
}
