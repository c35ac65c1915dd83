// Weights as f32. Every weight_*.wgsl defines the same: binding 0, `Weight8`, `weight8(i)`,
// and its two halves `packed8(i)` and `widened8(packed)`.

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
