// Weights as f16, two in each u32, for adapters without the f16 type. Every weight_*.wgsl defines the same: binding 0, `Weight8`,
// `weight8(i)`.

@group(0) @binding(0) var<storage, read> weights: array<vec4<u32>>;

// Eight neighbouring elements of a row, widened to f32.
struct Weight8 {
    lo: vec4<f32>,
    hi: vec4<f32>,
}

// Elements 8 i to 8 i + 7 of the row-major matrix: one 16-byte load.
fn weight8(i: u32) -> Weight8 {
    let w = weights[i];
    return Weight8(
        vec4<f32>(unpack2x16float(w.x), unpack2x16float(w.y)),
        vec4<f32>(unpack2x16float(w.z), unpack2x16float(w.w)),
    );
}
