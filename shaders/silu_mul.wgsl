// SwiGLU's middle: out = silu(gate) * up, silu(x) = x / (1 + e^-x), all f32.
//
// gate and up lie side by side in each row, as their matrices are stacked. One invocation owns one vec4.

struct Params {
    vecs: u32, // d_ff / 4
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> gate_up: array<vec4<f32>>;   // [n_tokens, 2 d_ff]
@group(0) @binding(1) var<storage, read_write> out: array<vec4<f32>>; // [n_tokens, d_ff]

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.x;
    let t = id.y;
    if i >= params.vecs {
        return;
    }
    let gate = gate_up[2u * t * params.vecs + i];
    let up = gate_up[(2u * t + 1u) * params.vecs + i];
    // e^80 is finite in f32 and makes silu vanish all the same
    out[t * params.vecs + i] = gate / (1.0 + exp(min(-gate, vec4<f32>(80.0)))) * up;
}
