// Integer products with weights as signed bytes in blocks of 32; the layout is that of weight_q8.wgsl. Twin of dot_q4.wgsl: same names,
// same meaning.

@group(0) @binding(0) var<storage, read> weights: array<vec4<u32>>; // two to a block
@group(0) @binding(15) var<storage, read> scales: array<u32>;       // two blocks each, low half first

// A block as it is stored: what an invocation holds that fetches ahead.
struct BlockWeights {
    a: vec4<u32>,
    b: vec4<u32>,
    d: f32,
}

fn block_weights(block: u32) -> BlockWeights {
    let d = unpack2x16float(scales[block / 2u] >> (16u * (block % 2u))).x;
    return BlockWeights(weights[2u * block], weights[2u * block + 1u], d);
}

// The product of a block of weights with 32 activations: bytes q in `lo` and `hi`, their scale in d.x, and that times their sum in d.y.
fn weights_dot(block: BlockWeights, lo: vec4<u32>, hi: vec4<u32>, d: vec2<f32>) -> f32 {
    let a = block.a;
    let b = block.b;
    let sum = dot4I8Packed(a.x, lo.x) + dot4I8Packed(a.y, lo.y) + dot4I8Packed(a.z, lo.z) + dot4I8Packed(a.w, lo.w)
        + dot4I8Packed(b.x, hi.x) + dot4I8Packed(b.y, hi.y) + dot4I8Packed(b.z, hi.z) + dot4I8Packed(b.w, hi.w);
    return block.d * d.x * f32(sum);
}

fn block_dot(block: u32, lo: vec4<u32>, hi: vec4<u32>, d: vec2<f32>) -> f32 {
    return weights_dot(block_weights(block), lo, hi, d);
}
