// Embedding gather: out[t] = weights[token of row t], widened to f32.
//
// One invocation moves eight elements of one row. A matrix that is split over bindings runs once for each part: rows whose token
// lies in another part are left alone.

struct Params {
    n_tokens: u32,
    groups: u32,    // d_model / 8
    first_row: u32, // first embedding row of this part
    n_rows: u32,    // embedding rows of this part
}
var<immediate> params: Params;

// binding 0: weights, [n_rows, d_model]
@group(0) @binding(1) var<storage, read> rows: array<Row>;               // [n_tokens]
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;    // [n_tokens, d_model]

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let group = id.x;
    let t = id.y;
    if group >= params.groups {
        return;
    }
    let token = rows[t].token;
    if token < params.first_row || token - params.first_row >= params.n_rows {
        return;
    }
    let w = weight8((token - params.first_row) * params.groups + group);
    let o = (t * params.groups + group) * 2u;
    out[o] = w.lo;
    out[o + 1u] = w.hi;
}
