// Integer products with weights as four-bit integers in blocks of 32; the layout is that of weight_q4.wgsl. Twin of dot_q8.wgsl: same
// names, same meaning.

@group(0) @binding(0) var<storage, read> weights: array<vec4<u32>>; // one to a block
@group(0) @binding(15) var<storage, read> scales: array<u32>;       // two blocks each, low half first: scale and zero point

// A block as it is stored: what an invocation holds that fetches ahead.
struct BlockWeights {
    w: vec4<u32>,
    grid: u32, // in the low half
}

fn block_weights(block: u32) -> BlockWeights {
    return BlockWeights(weights[block], scales[block / 2u] >> (16u * (block % 2u)));
}

// The product of a block of weights with 32 activations: bytes q in `lo` and `hi`, their scale in d.x, and that times their sum in d.y.
fn weights_dot(block: BlockWeights, lo: vec4<u32>, hi: vec4<u32>, d: vec2<f32>) -> f32 {
    let w = block.w;
    let even = w & vec4<u32>(0x0f0f0f0fu);
    let odd = (w >> vec4<u32>(4u)) & vec4<u32>(0x0f0f0f0fu);
    let d_w = unpack2x16float((block.grid & 0xff80u) >> 1u).x;
    let zero = 0.125 * f32(block.grid & 0x7fu);
    let sum = dot4I8Packed(even.x, lo.x) + dot4I8Packed(odd.x, lo.y) + dot4I8Packed(even.y, lo.z) + dot4I8Packed(odd.y, lo.w)
        + dot4I8Packed(even.z, hi.x) + dot4I8Packed(odd.z, hi.y) + dot4I8Packed(even.w, hi.z) + dot4I8Packed(odd.w, hi.w);
    return d_w * (d.x * f32(sum) - zero * d.y);
}

fn block_dot(block: u32, lo: vec4<u32>, hi: vec4<u32>, d: vec2<f32>) -> f32 {
    return weights_dot(block_weights(block), lo, hi, d);
}
