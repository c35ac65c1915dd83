// Self-test of the f16 type: widening, narrowing and arithmetic of known values, through vec4 loads and stores as kernels do them.
//
// One invocation owns one vector. Every value and every result is exactly representable, so the host compares without tolerance.

struct Params {
    n: u32, // vectors
}

var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> narrow: array<vec4<f16>>; // [3, n]
@group(0) @binding(1) var<storage, read> wide: array<vec4<f32>>; // [n]
@group(0) @binding(2) var<storage, read_write> widened: array<vec4<f32>>; // [n]
@group(0) @binding(3) var<storage, read_write> narrowed: array<vec4<f16>>; // [2, n]

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.x;
    if i >= params.n {
        return;
    }
    widened[i] = vec4<f32>(narrow[i]);
    narrowed[i] = vec4<f16>(wide[i]);
    narrowed[params.n + i] = narrow[params.n + i] * narrow[2u * params.n + i] + narrow[i % 16u + params.n];
}
