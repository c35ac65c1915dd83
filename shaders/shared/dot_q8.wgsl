// Integer products with weights as signed bytes in blocks of 32; the layout is that of weight_q8.wgsl. Twin of dot_q4.wgsl: same names,
// same meaning.

@group(0) @binding(0) var<storage, read> weights: array<vec4<u32>>; // two to a block
@group(0) @binding(15) var<storage, read> scales: array<u32>;       // two blocks each, low half first

// The product of a block of weights with 32 activations: bytes q in `lo` and `hi`, their scale in d.x, and that times their sum in d.y.
fn block_dot(block: u32, lo: vec4<u32>, hi: vec4<u32>, d: vec2<f32>) -> f32 {
    let a = weights[2u * block];
    let b = weights[2u * block + 1u];
    let d_w = unpack2x16float(scales[block / 2u] >> (16u * (block % 2u))).x;
    let sum = dot4I8Packed(a.x, lo.x) + dot4I8Packed(a.y, lo.y) + dot4I8Packed(a.z, lo.z) + dot4I8Packed(a.w, lo.w)
        + dot4I8Packed(b.x, hi.x) + dot4I8Packed(b.y, hi.y) + dot4I8Packed(b.z, hi.z) + dot4I8Packed(b.w, hi.w);
    return d_w * d.x * f32(sum);
}
