// Rotary embedding of q and k, fused with the write of k and v into the cache.
//
// qkv holds for each token n_heads query heads, n_kv_heads key heads and n_kv_heads value heads. Pair (i, i + head_dim / 2) turns by
// the angle pos * inv_freq[i]. cos and sin come from a table by angle addition: pos = 256 h + l, table row l holds the angles
// l * inv_freq (scaled by YaRN's factor), row 256 + h holds 256 h * inv_freq. So no driver's sin() is trusted at large arguments.
//
// One invocation owns four pairs of one head of one token.
// Header: HEAD_DIM, KV_BLOCK.

struct Params {
    n_heads: u32,
    n_kv_heads: u32,
    blocks_per_slot: u32, // columns of the block table
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> qkv: array<vec4<f32>>;        // [n_tokens, n_heads + 2 n_kv_heads, head_dim]
@group(0) @binding(1) var<storage, read> table: array<vec4<f32>>;      // [256 + n_hi, head_dim / 2, (cos, sin)]
@group(0) @binding(2) var<storage, read> rows: array<Row>;             // [n_tokens]
@group(0) @binding(3) var<storage, read> block_table: array<u32>;      // [n_slots, blocks_per_slot]
@group(0) @binding(4) var<storage, read_write> q: array<vec4<f32>>;    // [n_tokens, n_heads, head_dim]
@group(0) @binding(5) var<storage, read_write> k_cache: array<KvVec>;  // [n_blocks, n_kv_heads, KV_BLOCK, head_dim]
@group(0) @binding(6) var<storage, read_write> v_cache: array<KvVec>;  // the same

const HALF_VECS: u32 = HEAD_DIM / 8u;

// cos (xy of the result's first half) and sin of two neighbouring pairs: (cos0, cos1, sin0, sin1).
fn angle(rope_pos: u32, pair2: u32) -> vec4<f32> {
    let lo = table[(rope_pos % 256u) * HALF_VECS * 2u + pair2];
    let hi = table[(256u + rope_pos / 256u) * HALF_VECS * 2u + pair2];
    return vec4<f32>(hi.xz * lo.xz - hi.yw * lo.yw, hi.yw * lo.xz + hi.xz * lo.yw);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let n_all = params.n_heads + 2u * params.n_kv_heads;
    let head = id.x / HALF_VECS;
    let i = id.x % HALF_VECS;
    let t = id.y;
    if head >= n_all {
        return;
    }
    let row = rows[t];
    let source = (t * n_all + head) * HEAD_VECS + i;
    let first = qkv[source];
    let second = qkv[source + HALF_VECS];
    let block = block_table[row.slot * params.blocks_per_slot + row.pos / KV_BLOCK];
    if head >= params.n_heads + params.n_kv_heads {
        let o = kv_index(block, head - params.n_heads - params.n_kv_heads, params.n_kv_heads, row.pos % KV_BLOCK) + i;
        v_cache[o] = to_kv(first);
        v_cache[o + HALF_VECS] = to_kv(second);
        return;
    }
    let a = angle(row.rope_pos, 2u * i);
    let b = angle(row.rope_pos, 2u * i + 1u);
    let c = vec4<f32>(a.xy, b.xy);
    let s = vec4<f32>(a.zw, b.zw);
    let turned_first = first * c - second * s;
    let turned_second = second * c + first * s;
    if head < params.n_heads {
        let o = (t * params.n_heads + head) * HEAD_VECS + i;
        q[o] = turned_first;
        q[o + HALF_VECS] = turned_second;
    } else {
        let o = kv_index(block, head - params.n_heads, params.n_kv_heads, row.pos % KV_BLOCK) + i;
        k_cache[o] = to_kv(turned_first);
        k_cache[o + HALF_VECS] = to_kv(turned_second);
    }
}
