// Which rows a product of many rows reads and writes: here row i of x gives row i of out, by one matrix. Every rows_*.wgsl defines the
// same: `params`, `Rows`, what opens and finds them, what they read, and `put_out`.
//
// Header: ROWS_BINDING.

struct Params {
    n_tokens: u32,
    groups: u32,     // columns / 8
    n_rows: u32,     // rows of this part of the matrix
    first_out: u32,  // where its first row goes in a row of out
    out_stride: u32, // columns of out
    flags: u32,      // 1: add bias; 2: add to what out holds
}
var<immediate> params: Params;

@group(0) @binding(ROWS_BINDING) var<storage, read> bias: array<f32>;           // [out_stride], or anything without flag 1
@group(0) @binding(ROWS_BINDING + 1u) var<storage, read_write> out: array<f32>; // [n_tokens, out_stride]

const ADD_BIAS: u32 = 1u;
const ACCUMULATE: u32 = 2u;

// Whether there may be fewer tiles than the grid has.
const RAGGED: bool = false;

// What the tiles of a workgroup's matrix are cut from.
struct Rows {
    n: u32,
}

fn open_rows(z: u32, index: u32) -> Rows {
    return Rows(params.n_tokens);
}

fn find_rows(rows: Rows, first: u32, index: u32) {}

fn x_row(rows: Rows, i: u32) -> u32 {
    return i;
}

fn matrix_row(rows: Rows, r: u32) -> u32 {
    return r;
}

// Writes output r of row i.
fn put_out(rows: Rows, i: u32, r: u32, sum: f32) {
    let column = params.first_out + r;
    let o = i * params.out_stride + column;
    var y = sum;
    if (params.flags & ADD_BIAS) != 0u {
        y += bias[column];
    }
    if (params.flags & ACCUMULATE) != 0u {
        y += out[o];
    }
    out[o] = y;
}
