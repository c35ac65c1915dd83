// What a token's experts have made, added to the residual: x[t] += sum_s weight(t, s) * y[t, s].
//
// The first k slots are the experts that the token has chosen, each with a weight of its own; those behind them are slices of the shared
// expert, which have one in common. Slots are added in order, in f32. One invocation owns one vec4.

struct Params {
    vecs: u32,    // columns / 4
    n_slots: u32, // slots of a token
    k: u32,       // those with weights of their own
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> y: array<vec4<f32>>;       // [n_tokens, n_slots, columns]
@group(0) @binding(1) var<storage, read> factors: array<f32>;       // [n_tokens, k + 1]
@group(0) @binding(2) var<storage, read_write> x: array<vec4<f32>>; // [n_tokens, columns]

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.x;
    let t = id.y;
    if i >= params.vecs {
        return;
    }
    var sum = vec4<f32>(0.0);
    for (var s = 0u; s < params.n_slots; s++) {
        let weight = factors[t * (params.k + 1u) + min(s, params.k)];
        sum += weight * y[(t * params.n_slots + s) * params.vecs + i];
    }
    x[t * params.vecs + i] += sum;
}
