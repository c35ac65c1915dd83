// The experts of each token and their weights: RMS norm, logits of all experts and of the shared one's gate, and the choice of
// shared/choice.wgsl.
//
// One workgroup owns TOKENS tokens, so that a row of the matrix is read once for all of them. A team of TEAM invocations owns TEAM_ROWS
// rows at a time and strides over their columns; its sums then go through workgroup memory, one row of all teams at a time. As in
// shared/norm_rows.wgsl the norm's factor is left for the sums.
// Header: WORKGROUP, MAX_EXPERTS, TOKENS = 8.

const TEAM: u32 = 32u;
const TEAMS: u32 = WORKGROUP / TEAM; // as many as tokens: a team adds up the squares of one
const TEAM_ROWS: u32 = 3u;
const STRIDE: u32 = TEAM + 1u; // the shares of a sum; with TEAM itself all sums would begin in the same memory bank

var<workgroup> sh_shares: array<f32, TEAMS * TOKENS * STRIDE>;
var<workgroup> sh_factors: array<f32, TOKENS>; // of the norm

// Sum number `sum` of those whose shares are in place.
fn sum_shares(sum: u32) -> f32 {
    var total = 0.0;
    for (var lane = 0u; lane < TEAM; lane++) {
        total += sh_shares[sum * STRIDE + lane];
    }
    return total;
}

// The norm's factor of each token; every team hands in the squares of its own.
fn put_factors(squares: f32, index: u32) {
    sh_shares[index / TEAM * STRIDE + index % TEAM] = squares;
    workgroupBarrier(); // every share of the squares is in place
    if index < TOKENS {
        sh_factors[index] = 1.0 / sqrt(sum_shares(index) * params.inv_d + params.eps);
    }
    workgroupBarrier(); // the factors are in place, the shares have been used up
}

// The logits of one row of each team: `row0` and the rows behind it, by the team's shares for tokens 0 to 3 and 4 to 7.
fn put_logits(token0: u32, row0: u32, lo: vec4<f32>, hi: vec4<f32>, index: u32) {
    let first = index / TEAM * TOKENS * STRIDE + index % TEAM;
    sh_shares[first] = lo.x;
    sh_shares[first + STRIDE] = lo.y;
    sh_shares[first + 2u * STRIDE] = lo.z;
    sh_shares[first + 3u * STRIDE] = lo.w;
    sh_shares[first + 4u * STRIDE] = hi.x;
    sh_shares[first + 5u * STRIDE] = hi.y;
    sh_shares[first + 6u * STRIDE] = hi.z;
    sh_shares[first + 7u * STRIDE] = hi.w;
    workgroupBarrier(); // every share of every sum is in place
    let row = row0 + index / TOKENS;
    let t = index % TOKENS;
    if index < TEAMS * TOKENS && row <= params.n_experts {
        let logit = sum_shares(index) * sh_factors[t];
        put_logit(t, row, logit);
        if token0 + t < params.n_tokens {
            logits[(token0 + t) * (params.n_experts + 1u) + row] = logit;
        }
    }
    workgroupBarrier(); // the shares have been used up, the logits are in place
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let token0 = group.x * TOKENS;
    let team = index / TEAM;
    // past the last token that one is read again; its logits are not used
    let last = params.n_tokens - 1u;
    let x_lo = min(token0 + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(last)) * params.vecs;
    let x_hi = min(token0 + vec4<u32>(4u, 5u, 6u, 7u), vec4<u32>(last)) * params.vecs;
    let own = min(token0 + team, last) * params.vecs;
    for (var row0 = 0u; row0 <= params.n_experts; row0 += TEAM_ROWS * TEAMS) {
        // past the last row that one is read again; its sums are not used
        let rows = min(row0 + team + vec3<u32>(0u, TEAMS, 2u * TEAMS), vec3<u32>(params.n_experts)) * params.vecs;
        var squares = 0.0;
        var lo0 = vec4<f32>(0.0); // the first row with tokens 0 to 3
        var hi0 = vec4<f32>(0.0);
        var lo1 = vec4<f32>(0.0);
        var hi1 = vec4<f32>(0.0);
        var lo2 = vec4<f32>(0.0);
        var hi2 = vec4<f32>(0.0);
        for (var i = index % TEAM; i < params.vecs; i += TEAM) {
            let w0 = weights[rows.x + i];
            let w1 = weights[rows.y + i];
            let w2 = weights[rows.z + i];
            let weight = norm[i];
            let v = x[own + i];
            let x0 = x[x_lo.x + i] * weight;
            let x1 = x[x_lo.y + i] * weight;
            let x2 = x[x_lo.z + i] * weight;
            let x3 = x[x_lo.w + i] * weight;
            let x4 = x[x_hi.x + i] * weight;
            let x5 = x[x_hi.y + i] * weight;
            let x6 = x[x_hi.z + i] * weight;
            let x7 = x[x_hi.w + i] * weight;
            squares += dot(v, v);
            lo0 += vec4<f32>(dot(w0, x0), dot(w0, x1), dot(w0, x2), dot(w0, x3));
            hi0 += vec4<f32>(dot(w0, x4), dot(w0, x5), dot(w0, x6), dot(w0, x7));
            lo1 += vec4<f32>(dot(w1, x0), dot(w1, x1), dot(w1, x2), dot(w1, x3));
            hi1 += vec4<f32>(dot(w1, x4), dot(w1, x5), dot(w1, x6), dot(w1, x7));
            lo2 += vec4<f32>(dot(w2, x0), dot(w2, x1), dot(w2, x2), dot(w2, x3));
            hi2 += vec4<f32>(dot(w2, x4), dot(w2, x5), dot(w2, x6), dot(w2, x7));
        }
        if row0 == 0u {
            put_factors(squares, index);
        }
        put_logits(token0, row0, lo0, hi0, index);
        put_logits(token0, row0 + TEAMS, lo1, hi1, index);
        put_logits(token0, row0 + 2u * TEAMS, lo2, hi2, index);
    }
    choose(token0, min(TOKENS, params.n_tokens - token0), index);
}
