// Activations to signed bytes in blocks of 32, as shared/to_bytes.wgsl has it. One invocation owns four of them.
//
// Header: WORKGROUP, N_SLOTS = WORKGROUP.

struct Params {
    n_blocks: u32, // columns / 32, of all rows together
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;                 // [n_blocks, 8]
@group(0) @binding(1) var<storage, read_write> bytes: array<u32>;             // [n_blocks, 8]
@group(0) @binding(2) var<storage, read_write> block_scales: array<vec2<f32>>; // [n_blocks]: d, d times the sum of q

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_index) slot: u32) {
    let i = id.x;
    let is_inside = i < 8u * params.n_blocks;
    var values = vec4<f32>();
    if is_inside {
        values = x[i];
    }
    put_largest(slot, values);
    workgroupBarrier(); // all largest magnitudes are in place
    if is_inside {
        put_word(slot, i, values);
    }
    workgroupBarrier(); // all sums are in place
    if is_inside && slot % 8u == 0u {
        put_scales(slot, i);
    }
}
