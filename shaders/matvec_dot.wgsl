// Quantised matrix times one quantised vector: out[first_out + r] (+)= sum_k weights[r, k] * x[k] (+ bias[first_out + r]), with integer
// dot products within a block of 32 and f32 sums across blocks.
//
// Decode of 4-bit weights is bound by instructions if each weight is widened to f32; here a word of weights takes one dot product a
// mask. One workgroup owns N_ROWS rows; an invocation strides over their blocks, and one reduction ends it.
//
// Header: WORKGROUP, N_ROWS, N_SUMS = N_ROWS.

struct Params {
    blocks: u32,    // columns / 32
    n_rows: u32,    // rows of this part of the matrix
    first_out: u32, // where its first row goes in out
    flags: u32,     // 1: add bias; 2: add to what out holds
    grid_x: u32,    // workgroups in x; y continues where x ends
}
var<immediate> params: Params;

// binding 0: weights, [n_rows, blocks]
@group(0) @binding(1) var<storage, read> bytes: array<vec4<u32>>;        // [blocks, 2]
@group(0) @binding(2) var<storage, read> block_scales: array<vec2<f32>>; // [blocks]: d, d times the sum of q
@group(0) @binding(3) var<storage, read> bias: array<f32>;               // as long as out, or anything without flag 1
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

const ADD_BIAS: u32 = 1u;
const ACCUMULATE: u32 = 2u;

@compute @workgroup_size(WORKGROUP)
fn main(inv: Invocation) {
    let row0 = (inv.group.y * params.grid_x + inv.group.x) * N_ROWS;
    if row0 >= params.n_rows {
        return; // the whole workgroup leaves: it lies beyond the last row
    }
    var sums: array<f32, N_SUMS>;
    for (var b = inv.index; b < params.blocks; b += WORKGROUP) {
        let lo = bytes[2u * b];
        let hi = bytes[2u * b + 1u];
        let d = block_scales[b];
        for (var r = 0u; r < N_ROWS; r++) {
            // past the last row the last one is read again; its sums are not written
            let row = min(row0 + r, params.n_rows - 1u);
            sums[r] += block_dot(row * params.blocks + b, lo, hi, d);
        }
    }
    for (var s = 0u; s < N_SUMS; s++) {
        put_partial(s, sums[s], inv);
    }
    workgroupBarrier(); // every share of every sum is in place
    if inv.index < N_ROWS && row0 + inv.index < params.n_rows {
        var y = sum_partials(inv.index, inv);
        let column = params.first_out + row0 + inv.index;
        if (params.flags & ADD_BIAS) != 0u {
            y += bias[column];
        }
        if (params.flags & ACCUMULATE) != 0u {
            y += out[column];
        }
        out[column] = y;
    }
}
