// Weights as f32. Every weight_*.wgsl defines the same: binding 0, `Weight8`, `weight8(i)`,
// its two halves `packed8(i)` and `widened8(packed)`, and for products `Levels8`, `levels8(i)` and `dot8(levels, lo, hi)`.

@group(0) @binding(0) var<storage, read> weights: array<vec4<f32>>;

// Eight neighbouring elements of a row, widened to f32.
struct Weight8 {
    lo: vec4<f32>,
    hi: vec4<f32>,
}

// The same as they are stored: what an invocation holds that fetches ahead.
alias Packed8 = Weight8;

// Elements 8 i to 8 i + 7 of the row-major matrix.
fn packed8(i: u32) -> Packed8 {
    return Weight8(weights[2u * i], weights[2u * i + 1u]);
}

fn widened8(w: Packed8) -> Weight8 {
    return w;
}

fn weight8(i: u32) -> Weight8 {
    return packed8(i);
}

// What products take of eight elements, and the product with eight of a vector: some formats scale the sum instead of each element.
alias Levels8 = Weight8;

fn levels8(i: u32) -> Levels8 {
    return weight8(i);
}

fn dot8(w: Levels8, lo: vec4<f32>, hi: vec4<f32>) -> f32 {
    return dot(w.lo, lo) + dot(w.hi, hi);
}
