// Matrix times a few vectors: out[t, first_out + r] (+)= sum_k weights[r, k] * x[t, k] (+ bias[first_out + r]).
//
// For few rows of x, as in decode: bound by reading the weights once. One workgroup owns N_ROWS rows of the matrix for N_TOKENS tokens,
// and shares them out by columns or by rows; its invocations take eight elements at a time.
//
// Header: WORKGROUP, N_ROWS, N_TOKENS, N_SUMS = N_ROWS * N_TOKENS, TOKEN_TILES: 1 where the grid has tiles of tokens in z, 0 where one has
// them all.

struct Params {
    n_tokens: u32,
    groups: u32,    // columns / 8
    n_rows: u32,    // rows of this part of the matrix
    first_out: u32, // where its first row goes in a row of out
    out_stride: u32, // columns of out
    flags: u32,     // 1: add bias; 2: add to what out holds
    grid_x: u32,    // workgroups in x; y continues where x ends
}
var<immediate> params: Params;

// binding 0: weights, [n_rows, columns]
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;    // [n_tokens, columns]
@group(0) @binding(2) var<storage, read> bias: array<f32>;       // [out_stride], or anything without flag 1
@group(0) @binding(3) var<storage, read_write> out: array<f32>;  // [n_tokens, out_stride]

const ADD_BIAS: u32 = 1u;
const ACCUMULATE: u32 = 2u;

@compute @workgroup_size(WORKGROUP)
fn main(inv: Invocation) {
    let row0 = (inv.group.y * params.grid_x + inv.group.x) * N_ROWS;
    if row0 >= params.n_rows {
        return; // the whole workgroup leaves: it lies beyond the last row
    }
    let token0 = inv.group.z * N_TOKENS * TOKEN_TILES; // a constant where there is one tile, and so is where x begins
    var sums: array<f32, ROWS_EACH * N_TOKENS>;
    for (var g = first_group(inv); g < params.groups; g += GROUP_STEP) {
        for (var r = 0u; r < ROWS_EACH; r++) {
            // past the last row the last one is read again; its sums are not written
            let row = min(row0 + row_of(r, inv), params.n_rows - 1u);
            let w = levels8(row * params.groups + g);
            for (var t = 0u; t < N_TOKENS; t++) {
                let xi = (min(token0 + t, params.n_tokens - 1u) * params.groups + g) * 2u;
                sums[r * N_TOKENS + t] += dot8(w, x[xi], x[xi + 1u]);
            }
        }
    }
    for (var s = 0u; s < ROWS_EACH * N_TOKENS; s++) {
        put_partial(row_of(s / N_TOKENS, inv) * N_TOKENS + s % N_TOKENS, sums[s], inv);
    }
    workgroupBarrier(); // every share of every sum is in place
    for (var s = inv.index; s < N_SUMS; s += WORKGROUP) {
        let r = s / N_TOKENS;
        let t = token0 + s % N_TOKENS;
        if row0 + r < params.n_rows && t < params.n_tokens {
            var y = sum_partials(s, inv);
            let column = params.first_out + row0 + r;
            let o = t * params.out_stride + column;
            if (params.flags & ADD_BIAS) != 0u {
                y += bias[column];
            }
            if (params.flags & ACCUMULATE) != 0u {
                y += out[o];
            }
            out[o] = y;
        }
    }
}
