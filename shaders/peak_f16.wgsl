// How fast this adapter multiplies and adds in f16: 32 independent chains, in vec4s, of fused multiply-adds in each invocation.
//
// Factor and addend come from memory, so that no compiler can work the chains out beforehand; they are 1 and 1, so that every step
// is exact and the result says how many there were. 64 operations a step.

struct Params {
    n_steps: u32, // rounds of UNROLLED steps
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> data: array<vec4<f16>>;          // [2]: factor, addend
@group(0) @binding(1) var<storage, read_write> sums: array<f32>;  // one for each invocation

const UNROLLED: u32 = 8u;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let factor = data[0];
    let addend = data[1];
    var a0 = vec4<f16>(f16(id.x % 32u)) + vec4<f16>(0.0, 8.0, 16.0, 24.0); // no two of the 32 begin alike
    var a1 = a0 + vec4<f16>(1.0);
    var a2 = a0 + vec4<f16>(2.0);
    var a3 = a0 + vec4<f16>(3.0);
    var a4 = a0 + vec4<f16>(4.0);
    var a5 = a0 + vec4<f16>(5.0);
    var a6 = a0 + vec4<f16>(6.0);
    var a7 = a0 + vec4<f16>(7.0);
    for (var step = 0u; step < params.n_steps; step++) {
        for (var i = 0u; i < UNROLLED; i++) { // a bound that compilers unroll, so that counting costs little
            a0 = fma(a0, factor, addend);
            a1 = fma(a1, factor, addend);
            a2 = fma(a2, factor, addend);
            a3 = fma(a3, factor, addend);
            a4 = fma(a4, factor, addend);
            a5 = fma(a5, factor, addend);
            a6 = fma(a6, factor, addend);
            a7 = fma(a7, factor, addend);
        }
    }
    let low = (vec4<f32>(a0) + vec4<f32>(a1)) + (vec4<f32>(a2) + vec4<f32>(a3));
    let high = (vec4<f32>(a4) + vec4<f32>(a5)) + (vec4<f32>(a6) + vec4<f32>(a7));
    sums[id.x] = dot(low + high, vec4<f32>(1.0));
}
