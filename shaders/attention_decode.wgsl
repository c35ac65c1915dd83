// GQA flash attention for few query rows, split over the context; attention_merge joins the splits.
//
// One workgroup owns (split, kv head, token): all GROUP query heads that share the kv head, over one stretch of the context. It
// walks in tiles of KEYS keys with the online softmax (Milakov and Gimelshein 2018; Dao et al. 2022): running maximum m, running
// sum l and unnormalised output, all f32. Keys pass through workgroup memory, read once for the whole group; values are read
// straight into registers. A split without keys reports l = 0 and m = LOWEST.
//
// Header: HEAD_DIM, KV_BLOCK, GROUP. KEYS divides KV_BLOCK and tiles start at multiples of KEYS, so a tile lies in one block.

struct Params {
    n_kv_heads: u32,
    n_splits: u32,
    blocks_per_slot: u32,
    window: u32,   // last positions that are seen, the row's own included; 0: all
    scale: f32,    // 1 / sqrt(head_dim)
    head_vecs: u32, // HEAD_VECS again, as a bound that no compiler can unroll: CPU drivers took half a minute over it
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;             // [n_tokens, n_kv_heads * GROUP, head_dim]
@group(0) @binding(1) var<storage, read> k_cache: array<KvVec>;           // [n_blocks, n_kv_heads, KV_BLOCK, head_dim]
@group(0) @binding(2) var<storage, read> v_cache: array<KvVec>;           // the same
@group(0) @binding(3) var<storage, read> rows: array<Row>;                // [n_tokens]
@group(0) @binding(4) var<storage, read> block_table: array<u32>;         // [n_slots, blocks_per_slot]
@group(0) @binding(5) var<storage, read_write> partials: array<vec4<f32>>; // [n_tokens, n_heads, n_splits, head_dim]
@group(0) @binding(6) var<storage, read_write> stats: array<vec2<f32>>;   // (m, l): [n_tokens, n_heads, n_splits]

const WORKGROUP: u32 = 128u;
const KEYS: u32 = 32u;
const LOWEST: f32 = -3.0e38;
const KEY_STRIDE: u32 = HEAD_VECS + 1u;          // padded: neighbouring keys lie in different banks
const LANES: u32 = WORKGROUP / HEAD_VECS;        // query heads whose outputs are worked on at once
const PER_LANE: u32 = (GROUP + LANES - 1u) / LANES;

var<workgroup> sh_q: array<vec4<f32>, GROUP * HEAD_VECS>;
var<workgroup> sh_k: array<vec4<f32>, KEYS * KEY_STRIDE>;
var<workgroup> sh_p: array<f32, GROUP * KEYS>;   // scores, then their exponentials
var<workgroup> sh_m: array<f32, GROUP>;
var<workgroup> sh_alpha: array<f32, GROUP>;      // what the old sums are worth under the new maximum

// Scores of the tile's keys for every head of the group; keys outside [first, last] get LOWEST.
fn score_tile(index: u32, tile: u32, first: u32, last: u32) {
    let key = index % KEYS;
    let seen = tile + key >= first && tile + key <= last;
    for (var g = index / KEYS; g < GROUP; g += WORKGROUP / KEYS) {
        var s = 0.0;
        for (var d = 0u; d < params.head_vecs; d++) {
            s += dot(sh_q[g * HEAD_VECS + d], sh_k[key * KEY_STRIDE + d]);
        }
        sh_p[g * KEYS + key] = select(LOWEST, s * params.scale, seen);
    }
}

// New maxima and the factors for the old sums, one invocation a head.
fn update_maxima(index: u32, n_keys: u32) {
    if index < GROUP {
        let old = sh_m[index];
        var m = old;
        for (var key = 0u; key < n_keys; key++) {
            m = max(m, sh_p[index * KEYS + key]);
        }
        sh_m[index] = m;
        sh_alpha[index] = exp(old - m);
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let split = group.x;
    let kv_head = group.y;
    let t = group.z;
    let n_heads = params.n_kv_heads * GROUP;
    let row = rows[t];
    let last_seen = row.pos;
    var first_seen = 0u;
    if params.window != 0u && row.pos >= params.window {
        first_seen = row.pos + 1u - params.window;
    }
    // equal shares in whole tiles, counted from the tile that holds the first visible key
    let tile0 = first_seen / KEYS;
    let n_tiles = last_seen / KEYS + 1u - tile0;
    let share = (n_tiles + params.n_splits - 1u) / params.n_splits;
    let tile_begin = tile0 + split * share;
    let tile_end = min(tile_begin + share, tile0 + n_tiles);

    let q0 = (t * n_heads + kv_head * GROUP) * HEAD_VECS;
    for (var i = index; i < GROUP * HEAD_VECS; i += WORKGROUP) {
        sh_q[i] = q[q0 + i];
    }
    if index < GROUP {
        sh_m[index] = LOWEST;
    }
    let lane = index / HEAD_VECS;
    let d = index % HEAD_VECS;
    var acc: array<vec4<f32>, PER_LANE>;
    var sum: array<f32, PER_LANE>;

    for (var tile = tile_begin; tile < tile_end; tile++) {
        let key0 = tile * KEYS;
        let block = block_table[row.slot * params.blocks_per_slot + key0 / KV_BLOCK];
        let base = kv_index(block, kv_head, params.n_kv_heads, key0 % KV_BLOCK);
        let n_keys = min(KEYS, last_seen + 1u - key0);
        for (var i = index; i < KEYS * HEAD_VECS; i += WORKGROUP) {
            var k = vec4<f32>(0.0); // entries beyond the last token were never written
            if i / HEAD_VECS < n_keys {
                k = from_kv(k_cache[base + i]);
            }
            sh_k[(i / HEAD_VECS) * KEY_STRIDE + i % HEAD_VECS] = k;
        }
        workgroupBarrier(); // q, m and the keys are in place
        score_tile(index, key0, first_seen, last_seen);
        workgroupBarrier(); // the scores are in place
        update_maxima(index, n_keys);
        workgroupBarrier(); // the new maxima are in place
        for (var i = index; i < GROUP * KEYS; i += WORKGROUP) {
            let s = sh_p[i];
            sh_p[i] = select(0.0, exp(s - sh_m[i / KEYS]), s > LOWEST);
        }
        workgroupBarrier(); // the exponentials are in place
        for (var j = 0u; j < PER_LANE; j++) {
            let alpha = sh_alpha[min(lane + j * LANES, GROUP - 1u)];
            acc[j] *= alpha;
            sum[j] *= alpha;
        }
        for (var key = 0u; key < n_keys; key++) {
            let v = from_kv(v_cache[base + key * HEAD_VECS + d]);
            for (var j = 0u; j < PER_LANE; j++) {
                let p = sh_p[min(lane + j * LANES, GROUP - 1u) * KEYS + key];
                acc[j] += p * v;
                sum[j] += p;
            }
        }
        workgroupBarrier(); // this tile's exponentials and keys have been used
    }
    workgroupBarrier(); // m is in place even where no tile was walked
    for (var j = 0u; j < PER_LANE; j++) {
        let g = lane + j * LANES;
        if g < GROUP {
            let o = (t * n_heads + kv_head * GROUP + g) * params.n_splits + split;
            partials[o * HEAD_VECS + d] = acc[j];
            if d == 0u {
                stats[o] = vec2<f32>(sh_m[g], sum[j]);
            }
        }
    }
}
