// Weights as signed bytes in blocks of 32 that share an f16 scale. Every weight_*.wgsl defines the same: binding 0, `Weight8`,
// `weight8(i)`, its two halves `packed8(i)` and `widened8(packed)`, and for products `Levels8`, `levels8(i)` and `dot8(levels, lo, hi)`;
// this and weight_q4.wgsl have their scales at binding 15, behind whatever a kernel has of its own.

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
    let w = levels_of(packed);
    return Weight8(w.d * w.lo, w.d * w.hi);
}

fn weight8(i: u32) -> Weight8 {
    return widened8(packed8(i));
}

// What products take of eight elements: the bytes, and the scale for their sum.
struct Levels8 {
    lo: vec4<f32>,
    hi: vec4<f32>,
    d: f32,
}

fn levels_of(packed: Packed8) -> Levels8 {
    return Levels8(vec4<f32>(unpack4xI8(packed.w.x)), vec4<f32>(unpack4xI8(packed.w.y)), packed.d);
}

fn levels8(i: u32) -> Levels8 {
    return levels_of(packed8(i));
}

fn dot8(w: Levels8, lo: vec4<f32>, hi: vec4<f32>) -> f32 {
    return w.d * (dot(w.lo, lo) + dot(w.hi, hi));
}
