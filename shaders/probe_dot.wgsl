// Self-test of packed dot products: dot4I8Packed and dot4U8Packed, accumulated over WORDS words.
//
// One invocation owns one pair of sums. Integers, so the host compares without tolerance.

struct Params {
    n: u32, // pairs of sums
}

var<immediate> params: Params;

const WORDS: u32 = 4u;

@group(0) @binding(0) var<storage, read> a: array<u32>; // [n, WORDS]
@group(0) @binding(1) var<storage, read> b: array<u32>; // [n, WORDS]
@group(0) @binding(2) var<storage, read_write> sums: array<u32>; // [n, 2]: signed, unsigned

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.x;
    if i >= params.n {
        return;
    }
    var signed = 0;
    var unsigned = 0u;
    for (var word = 0u; word < WORDS; word++) {
        signed += dot4I8Packed(a[i * WORDS + word], b[i * WORDS + word]);
        unsigned += dot4U8Packed(a[i * WORDS + word], b[i * WORDS + word]);
    }
    sums[2u * i] = bitcast<u32>(signed);
    sums[2u * i + 1u] = unsigned;
}
