// One token's RMS norm, straight to signed bytes in blocks of 32 as shared/to_bytes.wgsl has it: x / sqrt(mean(x^2) + eps) * norm.
//
// One workgroup does it all; an invocation owns a block at a time. Header: WORKGROUP, N_SUMS = 1.

struct Params {
    n_blocks: u32, // columns / 32
    eps: f32,
    inv_d: f32,    // 1 / columns
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;                 // [n_blocks, 8]
@group(0) @binding(1) var<storage, read> norm: array<vec4<f32>>;              // [n_blocks, 8]
@group(0) @binding(2) var<storage, read_write> bytes: array<vec4<u32>>;       // [n_blocks, 2]
@group(0) @binding(3) var<storage, read_write> block_scales: array<vec2<f32>>; // [n_blocks]: d, d times the sum of q

@compute @workgroup_size(WORKGROUP)
fn main(inv: Invocation) {
    var squares = 0.0;
    for (var i = inv.index; i < 8u * params.n_blocks; i += WORKGROUP) {
        squares += dot(x[i], x[i]);
    }
    put_partial(0u, squares, inv);
    workgroupBarrier(); // every share of the sum is in place
    let factor = 1.0 / sqrt(sum_partials(0u, inv) * params.inv_d + params.eps);
    for (var block = inv.index; block < params.n_blocks; block += WORKGROUP) {
        var values: array<vec4<f32>, 8>;
        for (var k = 0u; k < 8u; k++) {
            values[k] = x[8u * block + k] * factor * norm[8u * block + k];
        }
        put_block(block, values);
    }
}
