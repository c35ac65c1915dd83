// RMS norm: out[t] = x[first_row + t] * rsqrt(mean(x^2) + eps) * weight, all in f32.
//
// One workgroup owns one row; an invocation strides over its vec4s. `first_row` lets the final norm take only the rows that a
// head will look at.

struct Params {
    vecs: u32,      // d_model / 4
    first_row: u32,
    eps: f32,
    inv_d: f32,     // 1 / d_model
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;         // [>= first_row + n_tokens, d_model]
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;    // [d_model]
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>; // [n_tokens, d_model]

@compute @workgroup_size(WORKGROUP)
fn main(inv: Invocation) {
    let t = inv.group.x;
    let x0 = (params.first_row + t) * params.vecs;
    var squares = 0.0;
    for (var i = inv.index; i < params.vecs; i += WORKGROUP) {
        let v = x[x0 + i];
        squares += dot(v, v);
    }
    put_partial(0u, squares, inv);
    workgroupBarrier(); // every share of the sum is in place
    let scale = 1.0 / sqrt(sum_partials(0u, inv) * params.inv_d + params.eps);
    for (var i = inv.index; i < params.vecs; i += WORKGROUP) {
        out[t * params.vecs + i] = x[x0 + i] * scale * weight[i];
    }
}
