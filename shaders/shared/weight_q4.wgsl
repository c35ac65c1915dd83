// Weights as four-bit integers in blocks of 32 that share a scale and a zero point, 16 bits together: an element is d (q - z), the upper
// nine bits are bits 6 to 14 of d as f16 (the others are 0), the lower seven are z in eighths. Every weight_*.wgsl defines the same:
// binding 0, `Weight8`, `weight8(i)` and its two halves `packed8(i)` and `widened8(packed)`; this and weight_q8.wgsl have their scales at
// binding 15, behind whatever a kernel has of its own.

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

fn widened8(packed: Packed8) -> Weight8 {
    let w = packed.w;
    let d = unpack2x16float((packed.grid & 0xff80u) >> 1u).x;
    let lo = vec4<f32>(unpack4xU8(w & 0x0f0f0f0fu));
    let hi = vec4<f32>(unpack4xU8((w >> 4u) & 0x0f0f0f0fu));
    // products and sums are exact: d has five significant bits, and q - z seven
    let at_zero = vec4<f32>(-0.125 * d * f32(packed.grid & 0x7fu));
    return Weight8(d * lo + at_zero, d * hi + at_zero);
}

fn weight8(i: u32) -> Weight8 {
    return widened8(packed8(i));
}
