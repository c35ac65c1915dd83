// RMS norm, straight to f16 for the matrix units as shared/f16_rows.wgsl has it: x / sqrt(mean(x^2) + eps) * weight.
//
// rms_norm.wgsl and to_f16.wgsl in one: the normalised x is never written in f32. Header: WORKGROUP, N_SUMS = 1.

struct Params {
    groups: u32, // columns / 8
    eps: f32,
    inv_d: f32,  // 1 / columns
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;         // [n_tokens, columns]
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;    // [columns]
@group(0) @binding(2) var<storage, read_write> out: array<vec4<u32>>; // [n_tokens, columns], two f16 a word
@group(0) @binding(3) var<storage, read_write> scales: array<f32>;    // [n_tokens]

var<private> factor: f32; // 1 / sqrt(mean(x^2) + eps) of the workgroup's row

fn eight(t: u32, g: u32) -> Eight {
    let i = 2u * (t * params.groups + g);
    return Eight(x[i] * factor * weight[2u * g], x[i + 1u] * factor * weight[2u * g + 1u]);
}

@compute @workgroup_size(WORKGROUP)
fn main(inv: Invocation) {
    let t = inv.group.x;
    var squares = 0.0;
    for (var g = inv.index; g < params.groups; g += WORKGROUP) {
        let i = 2u * (t * params.groups + g);
        squares += dot(x[i], x[i]) + dot(x[i + 1u], x[i + 1u]);
    }
    put_partial(0u, squares, inv);
    workgroupBarrier(); // every share of the sum is in place
    factor = 1.0 / sqrt(sum_partials(0u, inv) * params.inv_d + params.eps);
    put_row(t, inv.index);
}
