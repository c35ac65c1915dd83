// Joins the splits of attention_decode and attention_decode_coop: out = sum_s e^(m_s - m) partial_s / sum_s e^(m_s - m) l_s, with m the largest m_s.
//
// One workgroup owns one head of one token. Its invocations share the splits out over LANES lanes, HEAD_VECS vec4s wide, so that
// many loads are under way at once; the first lane adds up what the lanes have found.
// Header: HEAD_DIM, MAX_SPLITS.

struct Params {
    n_heads: u32,
    n_splits: u32, // 1 to MAX_SPLITS
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> partials: array<vec4<f32>>;   // [n_tokens, n_heads, n_splits, head_dim]
@group(0) @binding(1) var<storage, read> stats: array<vec2<f32>>;     // (m, l): [n_tokens, n_heads, n_splits]
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>; // [n_tokens, n_heads, head_dim]

const WORKGROUP: u32 = 256u;
const HEAD_VECS: u32 = HEAD_DIM / 4u;
const LANES: u32 = WORKGROUP / HEAD_VECS;

var<workgroup> sh_stats: array<vec2<f32>, MAX_SPLITS>;
var<workgroup> sh_sum: array<f32, LANES>;
var<workgroup> sh_acc: array<vec4<f32>, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let head = group.y * params.n_heads + group.x; // of all tokens
    let first = head * params.n_splits;
    if index < params.n_splits {
        sh_stats[index] = stats[first + index];
    }
    workgroupBarrier(); // every split's maximum and sum are in place
    var m = sh_stats[0].x;
    for (var s = 1u; s < params.n_splits; s++) {
        m = max(m, sh_stats[s].x);
    }
    let lane = index / HEAD_VECS;
    let d = index % HEAD_VECS;
    var sum = 0.0;
    var acc = vec4<f32>(0.0);
    for (var s = lane; s < params.n_splits; s += LANES) {
        let stat = sh_stats[s];
        let weight = exp(stat.x - m);
        sum += weight * stat.y;
        acc += weight * partials[(first + s) * HEAD_VECS + d];
    }
    sh_acc[index] = acc;
    if d == 0u {
        sh_sum[lane] = sum;
    }
    workgroupBarrier(); // every lane's share is in place
    if lane == 0u {
        for (var other = 1u; other < LANES; other++) {
            sum += sh_sum[other];
            acc += sh_acc[other * HEAD_VECS + d];
        }
        out[head * HEAD_VECS + d] = acc / sum;
    }
}
