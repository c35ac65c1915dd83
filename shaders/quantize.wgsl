// Activations to signed bytes in blocks of 32, as shared/to_bytes.wgsl has it. One invocation owns a block.

struct Params {
    n_blocks: u32, // columns / 32, of all rows together
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;                 // [n_blocks, 8]
@group(0) @binding(1) var<storage, read_write> bytes: array<vec4<u32>>;       // [n_blocks, 2]
@group(0) @binding(2) var<storage, read_write> block_scales: array<vec2<f32>>; // [n_blocks]: d, d times the sum of q

@compute @workgroup_size(32)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let block = id.x;
    if block >= params.n_blocks {
        return;
    }
    var values: array<vec4<f32>, 8>;
    for (var k = 0u; k < 8u; k++) {
        values[k] = x[8u * block + k];
    }
    put_block(block, values);
}
