// A vector in bytes, and the numbers of its blocks in a buffer of their own. Twin of bytes_joined.wgsl.

@group(0) @binding(1) var<storage, read> bytes: array<vec4<u32>>;        // [blocks, 2]
@group(0) @binding(2) var<storage, read> block_scales: array<vec2<f32>>; // [blocks]: d, d times the sum of q

fn scales_of(block: u32) -> vec2<f32> {
    return block_scales[block];
}
