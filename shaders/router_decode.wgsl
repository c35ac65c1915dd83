// The experts of each of a few tokens and their weights: RMS norm, logits, and the choice of shared/choice.wgsl. Twin of router.wgsl.
//
// One workgroup could not read the matrix fast enough, so each of its rows has one: x is the row of the grid's y. A workgroup hands its
// logit in, and the last to do so chooses for the token. WGSL promises no order between what workgroups write to different places, so all
// that passes between them is one atomic word a logit, and the word itself says whether the logit is there. The last one leaves zeros
// for the next dispatch. As in shared/norm_rows.wgsl the norm's factor is left for the sums.
// Header: WORKGROUP, N_SUMS = 2: the product, and the squares. MAX_EXPERTS, TOKENS = 1.

@group(0) @binding(7) var<storage, read_write> handed_in: array<atomic<u32>>; // [n_tokens, n_experts + 2], zeros; how many, last

var<workgroup> sh_before: u32; // logits of the token that were handed in before this one

// A logit as a word that is not zero: its bits turned round, where no NaN has all bits set.
fn word_of(logit: f32) -> u32 {
    let bits = bitcast<u32>(logit);
    return ~select(bits, 0x7fc00000u, bits == 0xffffffffu);
}

// Every invocation hands in its share of the product and of the squares: four loads of each are under way. A workgroupBarrier() must
// follow.
fn put_shares(row: u32, token: u32, inv: Invocation) {
    var product = vec4<f32>(0.0);
    var squares = vec4<f32>(0.0);
    for (var first = inv.index; first < params.vecs; first += 4u * WORKGROUP) {
        let i = first + vec4<u32>(0u, WORKGROUP, 2u * WORKGROUP, 3u * WORKGROUP);
        // past the end the last one is read again, and does not count
        let at = min(i, vec4<u32>(params.vecs - 1u));
        let in_w = at + row * params.vecs;
        let in_x = at + token * params.vecs;
        let w0 = weights[in_w.x];
        let w1 = weights[in_w.y];
        let w2 = weights[in_w.z];
        let w3 = weights[in_w.w];
        let x0 = x[in_x.x];
        let x1 = x[in_x.y];
        let x2 = x[in_x.z];
        let x3 = x[in_x.w];
        let products = vec4<f32>(dot(w0, x0 * norm[at.x]), dot(w1, x1 * norm[at.y]), dot(w2, x2 * norm[at.z]), dot(w3, x3 * norm[at.w]));
        let counts = i < vec4<u32>(params.vecs);
        product += select(vec4<f32>(0.0), products, counts);
        squares += select(vec4<f32>(0.0), vec4<f32>(dot(x0, x0), dot(x1, x1), dot(x2, x2), dot(x3, x3)), counts);
    }
    put_partial(0u, product.x + product.y + (product.z + product.w), inv);
    put_partial(1u, squares.x + squares.y + (squares.z + squares.w), inv);
}

@compute @workgroup_size(WORKGROUP)
fn main(inv: Invocation) {
    let row = inv.group.x;
    let token = inv.group.y;
    let first = token * (params.n_experts + 2u);
    put_shares(row, token, inv);
    workgroupBarrier(); // every share of both sums is in place
    if inv.index == 0u {
        let factor = 1.0 / sqrt(sum_partials(1u, inv) * params.inv_d + params.eps);
        let logit = sum_partials(0u, inv) * factor;
        logits[token * (params.n_experts + 1u) + row] = logit;
        atomicStore(&handed_in[first + row], word_of(logit));
        sh_before = atomicAdd(&handed_in[first + params.n_experts + 1u], 1u);
    }
    if workgroupUniformLoad(&sh_before) < params.n_experts {
        return; // the whole workgroup leaves: another one chooses
    }
    for (var i = inv.index; i <= params.n_experts; i += WORKGROUP) {
        var word = 0u;
        while word == 0u { // counted, so on its way
            word = atomicLoad(&handed_in[first + i]);
        }
        put_logit(0u, i, bitcast<f32>(~word));
        atomicStore(&handed_in[first + i], 0u);
    }
    if inv.index == 0u {
        atomicStore(&handed_in[first + params.n_experts + 1u], 0u);
    }
    workgroupBarrier(); // the logits are in place
    choose(token, 1u, inv.index);
}
