// A vector in bytes, and the numbers of its blocks behind them, where norm_quantize.wgsl leaves them once more: for kernels that have no
// binding left. Twin of bytes_apart.wgsl.
//
// The kernel's params have scales_at, the first vector of those numbers.

@group(0) @binding(1) var<storage, read> bytes: array<vec4<u32>>; // [blocks, 2], and from scales_at on [blocks / 2]: d, d times the sum of q

fn scales_of(block: u32) -> vec2<f32> {
    let two = bytes[params.scales_at + block / 2u];
    return bitcast<vec2<f32>>(select(two.xy, two.zw, block % 2u == 1u));
}
