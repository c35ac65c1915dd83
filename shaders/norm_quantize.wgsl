// One token's RMS norm, straight to signed bytes in blocks of 32 as shared/to_bytes.wgsl has it: x / sqrt(mean(x^2) + eps) * norm.
//
// One workgroup does it all; an invocation owns a block at a time. What it needs for its first block, the only one of up to 8192
// columns, is on its way while the squares are summed. Header: WORKGROUP, N_SUMS = 1.

struct Params {
    n_blocks: u32,  // columns / 32
    eps: f32,
    inv_d: f32,     // 1 / columns
    scales_at: u32, // the first word of the scales behind the bytes, an even number
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;                  // [n_blocks, 8]
@group(0) @binding(1) var<storage, read> norm: array<vec4<f32>>;               // [n_blocks, 8]
@group(0) @binding(2) var<storage, read_write> bytes: array<vec2<u32>>;        // [n_blocks, 4], and from scales_at on block_scales once more
@group(0) @binding(3) var<storage, read_write> block_scales: array<vec2<f32>>; // [n_blocks]: d, d times the sum of q

fn put_block(block: u32, values: array<vec4<f32>, 8>) {
    var most = vec4<f32>(0.0);
    for (var k = 0u; k < 8u; k++) {
        most = max(most, abs(values[k]));
    }
    let largest = max(max(most.x, most.y), max(most.z, most.w));
    let inverse = inverse_of(largest);
    var sum = vec4<i32>(0);
    for (var k = 0u; k < 4u; k++) {
        let q0 = vec4<i32>(round(values[2u * k] * inverse));
        let q1 = vec4<i32>(round(values[2u * k + 1u] * inverse));
        bytes[4u * block + k] = vec2<u32>(pack4xI8(q0), pack4xI8(q1));
        sum += q0 + q1;
    }
    let d = largest / HIGHEST;
    let scales = vec2<f32>(d, d * f32(sum.x + sum.y + sum.z + sum.w));
    block_scales[block] = scales;
    bytes[params.scales_at / 2u + block] = bitcast<vec2<u32>>(scales);
}

@compute @workgroup_size(WORKGROUP)
fn main(inv: Invocation) {
    let own = inv.index;
    var values: array<vec4<f32>, 8>;
    var weights: array<vec4<f32>, 8>;
    var squares = 0.0;
    if own < params.n_blocks {
        for (var k = 0u; k < 8u; k++) {
            values[k] = x[8u * own + k];
            weights[k] = norm[8u * own + k];
        }
        for (var k = 0u; k < 8u; k++) {
            squares += dot(values[k], values[k]);
        }
    }
    for (var block = own + WORKGROUP; block < params.n_blocks; block += WORKGROUP) {
        for (var k = 0u; k < 8u; k++) {
            squares += dot(x[8u * block + k], x[8u * block + k]);
        }
    }
    put_partial(0u, squares, inv);
    workgroupBarrier(); // every share of the sum is in place
    let factor = 1.0 / sqrt(sum_partials(0u, inv) * params.inv_d + params.eps);
    if own < params.n_blocks {
        for (var k = 0u; k < 8u; k++) {
            values[k] = values[k] * factor * weights[k];
        }
        put_block(own, values);
    }
    for (var block = own + WORKGROUP; block < params.n_blocks; block += WORKGROUP) {
        for (var k = 0u; k < 8u; k++) {
            values[k] = x[8u * block + k] * factor * norm[8u * block + k];
        }
        put_block(block, values);
    }
}
