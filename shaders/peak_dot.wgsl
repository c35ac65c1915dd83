// How fast this adapter computes packed 8-bit dot products: eight independent chains in each invocation.
//
// Each chain feeds on itself, so that no product can be moved out of the loop. 64 operations a step: four products and four sums in
// each of the eight. Sums wrap.

struct Params {
    n_steps: u32, // rounds of UNROLLED steps
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> data: array<u32>;        // [1]: four signed bytes
@group(0) @binding(1) var<storage, read_write> sums: array<i32>;  // one for each invocation

fn advance(sum: i32, bytes: u32) -> i32 {
    return dot4I8Packed(bitcast<u32>(sum), bytes) + sum;
}

const UNROLLED: u32 = 8u;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let bytes = data[0];
    var a0 = i32(id.x);
    var a1 = a0 + 0x1000001;
    var a2 = a0 + 0x2000002;
    var a3 = a0 + 0x3000003;
    var a4 = a0 + 0x4000004;
    var a5 = a0 + 0x5000005;
    var a6 = a0 + 0x6000006;
    var a7 = a0 + 0x7000007;
    for (var step = 0u; step < params.n_steps; step++) {
        for (var i = 0u; i < UNROLLED; i++) { // a bound that compilers unroll, so that counting costs little
            a0 = advance(a0, bytes);
            a1 = advance(a1, bytes);
            a2 = advance(a2, bytes);
            a3 = advance(a3, bytes);
            a4 = advance(a4, bytes);
            a5 = advance(a5, bytes);
            a6 = advance(a6, bytes);
            a7 = advance(a7, bytes);
        }
    }
    sums[id.x] = ((a0 ^ a1) ^ (a2 ^ a3)) ^ ((a4 ^ a5) ^ (a6 ^ a7));
}
