// Weights as four-bit integers in blocks of 32 that share a scale and a zero point, 16 bits together: an element is d (q - z), the upper
// nine bits are bits 6 to 14 of d as f16 (the others are 0), the lower seven are z in eighths. Every weight_*.wgsl defines the same:
// binding 0, `Weight8`, `weight8(i)`, its two halves `packed8(i)` and `widened8(packed)`, and for products `Levels8`, `levels8(i)` and
// `dot8(levels, lo, hi)`; this and weight_q8.wgsl have their scales at binding 15, behind whatever a kernel has of its own.

@group(0) @binding(0) var<storage, read> weights: array<u32>;
@group(0) @binding(15) var<storage, read> scales: array<u32>; // two blocks each, low half first

// Eight neighbouring elements of a row, widened to f32.
struct Weight8 {
    lo: vec4<f32>,
    hi: vec4<f32>,
}

// The same as they are stored: what an invocation holds that fetches ahead.
struct Packed8 {
    w: u32,
    grid: u32, // in the low half
}

// Scale and zero point of a block. The rows of a matrix have an even number of blocks, and follow each other without a gap.
fn block_grid(block: u32) -> u32 {
    return scales[block / 2u] >> (16u * (block % 2u));
}

// Elements 8 i to 8 i + 7 of the row-major matrix: one word, of which the low halves of the bytes hold the first four.
fn packed8(i: u32) -> Packed8 {
    return Packed8(weights[i], block_grid(i / 4u));
}

fn grid_scale(grid: u32) -> f32 {
    return unpack2x16float((grid & 0xff80u) >> 1u).x;
}

// In eighths of a step.
fn grid_zero(grid: u32) -> f32 {
    return f32(grid & 0x7fu);
}

fn lower_halves(w: u32) -> vec4<f32> {
    return vec4<f32>(unpack4xU8(w & 0x0f0f0f0fu));
}

fn upper_halves(w: u32) -> vec4<f32> {
    return vec4<f32>(unpack4xU8((w >> 4u) & 0x0f0f0f0fu));
}

fn widened8(packed: Packed8) -> Weight8 {
    let d = grid_scale(packed.grid);
    // products and sums are exact: d has five significant bits, and q - z seven
    let at_zero = vec4<f32>(-0.125 * d * grid_zero(packed.grid));
    return Weight8(d * lower_halves(packed.w) + at_zero, d * upper_halves(packed.w) + at_zero);
}

fn weight8(i: u32) -> Weight8 {
    return widened8(packed8(i));
}

// What products take of eight elements: q - z, which is exact, and d for their sum. Taking z times the sum of the vector out of the sum of
// all q would save the differences, but a large element of the vector, whose weight may be next to nothing, would not cancel exactly.
struct Levels8 {
    lo: vec4<f32>,
    hi: vec4<f32>,
    d: f32,
}

fn levels8(i: u32) -> Levels8 {
    let packed = packed8(i);
    let zero = vec4<f32>(0.125 * grid_zero(packed.grid));
    return Levels8(lower_halves(packed.w) - zero, upper_halves(packed.w) - zero, grid_scale(packed.grid));
}

fn dot8(w: Levels8, lo: vec4<f32>, hi: vec4<f32>) -> f32 {
    return w.d * (dot(w.lo, lo) + dot(w.hi, hi));
}
