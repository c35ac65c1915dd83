// SwiGLU's middle, straight to f16 for the matrix units as shared/f16_rows.wgsl has it: silu(gate) * up, silu(x) = x / (1 + e^-x).
//
// gate and up lie side by side in each row, as their matrices are stacked. silu_mul.wgsl and to_f16.wgsl in one: the products are never
// written in f32. Header: WORKGROUP.

struct Params {
    groups: u32, // d_ff / 8
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> gate_up: array<vec4<f32>>;   // [n_tokens, 2 d_ff]
@group(0) @binding(1) var<storage, read_write> out: array<vec4<u32>>; // [n_tokens, d_ff], two f16 a word
@group(0) @binding(2) var<storage, read_write> scales: array<f32>;    // [n_tokens]

fn silu_mul(gate: vec4<f32>, up: vec4<f32>) -> vec4<f32> {
    // e^80 is finite in f32 and makes silu vanish all the same
    return gate / (1.0 + exp(min(-gate, vec4<f32>(80.0)))) * up;
}

fn eight(t: u32, g: u32) -> Eight {
    let gate = 4u * t * params.groups + 2u * g;
    let up = gate + 2u * params.groups;
    return Eight(silu_mul(gate_up[gate], gate_up[up]), silu_mul(gate_up[gate + 1u], gate_up[up + 1u]));
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    put_row(group.x, index);
}
