// GQA attention of few query rows over a context so short that it need not be split. attention_decode.wgsl has any context, and this
// kernel's portable twin.
//
// One workgroup owns (query head, token), with all keys that the token sees. Short contexts are bound by waiting, one step for the next:
// so that there are few steps, teams of LANES invocations, one a vec4 of head_dim, take BATCH keys each at a time, with keys and values
// under way together, and meet no barrier before the end. The query heads of a group read the same keys, which by then lie in a cache.
// Online softmax in each team (Milakov and Gimelshein 2018), all f32; what the teams have found is joined in the end as
// attention_merge.wgsl does it.
//
// Registers that wait for memory have names instead of indices: arrays of them end up in memory.
// Header: WORKGROUP, HEAD_DIM, KV_BLOCK. Needs one shared/team_*.wgsl: sums over a team.

struct Params {
    n_kv_heads: u32,
    group: u32,           // query heads to a kv head
    blocks_per_slot: u32,
    window: u32,          // last positions that are seen, the row's own included; 0: all
    scale: f32,           // 1 / sqrt(head_dim)
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;          // [n_tokens, n_kv_heads * group, head_dim]
@group(0) @binding(1) var<storage, read> k_cache: array<KvVec>;        // [n_blocks, n_kv_heads, KV_BLOCK, head_dim]
@group(0) @binding(2) var<storage, read> v_cache: array<KvVec>;        // the same
@group(0) @binding(3) var<storage, read> rows: array<Row>;             // [n_tokens]
@group(0) @binding(4) var<storage, read> block_table: array<u32>;      // [n_slots, blocks_per_slot]
@group(0) @binding(5) var<storage, read_write> out: array<vec4<f32>>;  // [n_tokens, n_kv_heads * group, head_dim]

const LANES: u32 = HEAD_VECS;
const TEAMS: u32 = WORKGROUP / LANES;
const BATCH: u32 = 8u;
const CHUNK: u32 = TEAMS * BATCH; // keys of all teams at a time: one block of the cache, or two with head_dim 64
const LOWEST: f32 = -3.0e38;

var<workgroup> sh_acc: array<vec4<f32>, WORKGROUP>;
var<workgroup> sh_state: array<vec2<f32>, TEAMS>; // maximum and sum of each team

// Where a block's keys and values of this kv head start. A block without seen keys stays unread.
fn block_start(row: Row, block: u32, kv_head: u32) -> u32 {
    let seen = min(block, row.pos / KV_BLOCK);
    return kv_index(block_table[row.slot * params.blocks_per_slot + seen], kv_head, params.n_kv_heads, 0u);
}

// The value, unless the row does not see it: such an entry can hold anything, and zero times a NaN is none.
fn seen_value(v: KvVec, seen: bool) -> vec4<f32> {
    return select(vec4<f32>(0.0), from_kv(v), seen);
}

fn largest(v: vec4<f32>) -> f32 {
    return max(max(v.x, v.y), max(v.z, v.w));
}

@compute @workgroup_size(WORKGROUP)
fn main(inv: Invocation) {
    let head = inv.group.x;
    let kv_head = head / params.group;
    let row = rows[inv.group.y];
    var first = 0u;
    if params.window != 0u && row.pos >= params.window {
        first = row.pos + 1u - params.window;
    }
    let team = team_of(inv);
    let lane = lane_of(inv);
    let at = (inv.group.y * params.n_kv_heads * params.group + head) * LANES + lane;
    let query = q[at] * params.scale;
    var m = LOWEST;
    var l = 0.0;
    var acc = vec4<f32>(0.0);
    for (var key0 = first - first % KV_BLOCK; key0 <= row.pos; key0 += CHUNK) {
        // teams take neighbouring keys: a step on is TEAMS keys on, and half a batch lies in one block
        let start = block_start(row, key0 / KV_BLOCK, kv_head) + team * LANES + lane;
        var start2 = start + 4u * TEAMS * LANES;
        if CHUNK > KV_BLOCK {
            start2 = block_start(row, key0 / KV_BLOCK + 1u, kv_head) + team * LANES + lane;
        }
        let step = TEAMS * LANES;
        let k0 = k_cache[start];
        let k1 = k_cache[start + step];
        let k2 = k_cache[start + 2u * step];
        let k3 = k_cache[start + 3u * step];
        let k4 = k_cache[start2];
        let k5 = k_cache[start2 + step];
        let k6 = k_cache[start2 + 2u * step];
        let k7 = k_cache[start2 + 3u * step];
        let v0 = v_cache[start];
        let v1 = v_cache[start + step];
        let v2 = v_cache[start + 2u * step];
        let v3 = v_cache[start + 3u * step];
        let v4 = v_cache[start2];
        let v5 = v_cache[start2 + step];
        let v6 = v_cache[start2 + 2u * step];
        let v7 = v_cache[start2 + 3u * step];

        let key = vec4<u32>(key0 + team) + vec4<u32>(0u, 1u, 2u, 3u) * TEAMS;
        let key2 = key + vec4<u32>(4u * TEAMS);
        let seen = (key >= vec4<u32>(first)) & (key <= vec4<u32>(row.pos));
        let seen2 = (key2 >= vec4<u32>(first)) & (key2 <= vec4<u32>(row.pos));
        let part = vec4<f32>(dot(query, from_kv(k0)), dot(query, from_kv(k1)), dot(query, from_kv(k2)), dot(query, from_kv(k3)));
        let part2 = vec4<f32>(dot(query, from_kv(k4)), dot(query, from_kv(k5)), dot(query, from_kv(k6)), dot(query, from_kv(k7)));
        let s = select(vec4<f32>(LOWEST), team_sum(part, inv), seen);
        let s2 = select(vec4<f32>(LOWEST), team_sum(part2, inv), seen2);
        let before = m;
        m = max(m, max(largest(s), largest(s2)));
        let alpha = exp(before - m);
        let p = select(vec4<f32>(0.0), exp(s - m), seen);
        let p2 = select(vec4<f32>(0.0), exp(s2 - m), seen2);
        l = l * alpha + dot(p + p2, vec4<f32>(1.0));
        acc *= alpha;
        acc += p.x * seen_value(v0, seen.x) + p.y * seen_value(v1, seen.y);
        acc += p.z * seen_value(v2, seen.z) + p.w * seen_value(v3, seen.w);
        acc += p2.x * seen_value(v4, seen2.x) + p2.y * seen_value(v5, seen2.y);
        acc += p2.z * seen_value(v6, seen2.z) + p2.w * seen_value(v7, seen2.w);
    }
    sh_acc[team * LANES + lane] = acc;
    if lane == 0u {
        sh_state[team] = vec2<f32>(m, l);
    }
    workgroupBarrier(); // what every team has found is in place
    if team == 0u {
        for (var other = 0u; other < TEAMS; other++) {
            m = max(m, sh_state[other].x);
        }
        l = 0.0;
        acc = vec4<f32>(0.0);
        for (var other = 0u; other < TEAMS; other++) {
            let weight = exp(sh_state[other].x - m);
            l += weight * sh_state[other].y;
            acc += weight * sh_acc[other * LANES + lane];
        }
        out[at] = acc / l;
    }
}
