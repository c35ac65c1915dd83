// Joins the splits of attention_decode: out = sum_s e^(m_s - m) partial_s / sum_s e^(m_s - m) l_s, with m the largest m_s.
//
// One invocation owns one vec4 of one head of one token.
// Header: HEAD_DIM.

struct Params {
    n_heads: u32,
    n_splits: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> partials: array<vec4<f32>>;   // [n_tokens, n_heads, n_splits, head_dim]
@group(0) @binding(1) var<storage, read> stats: array<vec2<f32>>;     // (m, l): [n_tokens, n_heads, n_splits]
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>; // [n_tokens, n_heads, head_dim]

const HEAD_VECS: u32 = HEAD_DIM / 4u;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let head = id.x / HEAD_VECS;
    let d = id.x % HEAD_VECS;
    let t = id.y;
    if head >= params.n_heads {
        return;
    }
    let first = (t * params.n_heads + head) * params.n_splits;
    var m = stats[first].x;
    for (var s = 1u; s < params.n_splits; s++) {
        m = max(m, stats[first + s].x);
    }
    var sum = 0.0;
    var acc = vec4<f32>(0.0);
    for (var s = 0u; s < params.n_splits; s++) {
        let stat = stats[first + s];
        let weight = exp(stat.x - m);
        sum += weight * stat.y;
        acc += weight * partials[(first + s) * HEAD_VECS + d];
    }
    out[(t * params.n_heads + head) * HEAD_VECS + d] = acc / sum;
}
