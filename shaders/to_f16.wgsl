// Rows of x to f16 for the matrix units, as shared/f16_rows.wgsl has it. Header: WORKGROUP.

struct Params {
    groups: u32, // columns / 8
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;         // [n_tokens, columns]
@group(0) @binding(1) var<storage, read_write> out: array<vec4<u32>>; // [n_tokens, columns], two f16 a word
@group(0) @binding(2) var<storage, read_write> scales: array<f32>;    // [n_tokens]

fn eight(t: u32, g: u32) -> Eight {
    let i = 2u * (t * params.groups + g);
    return Eight(x[i], x[i + 1u]);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    put_row(group.x, index);
}
