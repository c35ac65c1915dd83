// Weights as signed bytes in blocks of 32 that share an f16 scale. Every weight_*.wgsl defines the same: binding 0, `Weight8`,
// `weight8(i)` and its two halves `packed8(i)` and `widened8(packed)`; this and weight_q4.wgsl have their scales at binding 15, behind whatever a kernel has of its own.

@group(0) @binding(0) var<storage, read> weights: array<vec2<u32>>;
@group(0) @binding(15) var<storage, read> scales: array<u32>; // two blocks each, low half first

// Eight neighbouring elements of a row, widened to f32.
struct Weight8 {
    lo: vec4<f32>,
    hi: vec4<f32>,
}

// The same as they are stored: what an invocation holds that fetches ahead.
struct Packed8 {
    w: vec2<u32>,
    d: f32,
}

// The scale of a block. The rows of a matrix have an even number of blocks, and follow each other without a gap.
fn block_scale(block: u32) -> f32 {
    return unpack2x16float(scales[block / 2u] >> (16u * (block % 2u))).x;
}

// Elements 8 i to 8 i + 7 of the row-major matrix: one 8-byte load, and the scale that four neighbours share.
fn packed8(i: u32) -> Packed8 {
    return Packed8(weights[i], block_scale(i / 4u));
}

fn widened8(packed: Packed8) -> Weight8 {
    let w = packed.w;
    let d = packed.d;
    return Weight8(d * vec4<f32>(unpack4xI8(w.x)), d * vec4<f32>(unpack4xI8(w.y)));
}

fn weight8(i: u32) -> Weight8 {
    return widened8(packed8(i));
}
