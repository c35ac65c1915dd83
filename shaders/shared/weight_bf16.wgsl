// Weights as bf16, two in each u32, low half first. Every weight_*.wgsl defines the same: binding 0, `Weight8`, `weight8(i)`,
// its two halves `packed8(i)` and `widened8(packed)`, and for products `Levels8`, `levels8(i)` and `dot8(levels, lo, hi)`.
//
// bf16 is the upper half of an f32, so widening is a shift and exact.

@group(0) @binding(0) var<storage, read> weights: array<vec4<u32>>;

// Eight neighbouring elements of a row, widened to f32.
struct Weight8 {
    lo: vec4<f32>,
    hi: vec4<f32>,
}

// The same as they are stored: what an invocation holds that fetches ahead.
alias Packed8 = vec4<u32>;

// Elements 8 i to 8 i + 7 of the row-major matrix: one 16-byte load.
fn packed8(i: u32) -> Packed8 {
    return weights[i];
}

fn widened8(w: Packed8) -> Weight8 {
    let even = bitcast<vec4<f32>>(w << vec4<u32>(16u));
    let odd = bitcast<vec4<f32>>(w & vec4<u32>(0xffff0000u));
    return Weight8(vec4<f32>(even.x, odd.x, even.y, odd.y), vec4<f32>(even.z, odd.z, even.w, odd.w));
}

fn weight8(i: u32) -> Weight8 {
    return widened8(packed8(i));
}

// What products take of eight elements, and the product with eight of a vector: some formats scale the sum instead of each element.
alias Levels8 = Weight8;

fn levels8(i: u32) -> Levels8 {
    return weight8(i);
}

fn dot8(w: Levels8, lo: vec4<f32>, hi: vec4<f32>) -> f32 {
    return dot(w.lo, lo) + dot(w.hi, hi);
}
