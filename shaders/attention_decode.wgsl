// GQA flash attention for few query rows, split over the context; attention_merge joins the splits. A single split divides by its sums,
// and needs no merge.
//
// One workgroup owns (split, kv head, token): all GROUP query heads that share the kv head, over one stretch of the context. It
// walks in tiles of KEYS keys with the online softmax (Milakov and Gimelshein 2018; Dao et al. 2022): running maximum m, running
// sum l and unnormalised output, all f32. Keys and values are read once for the whole group, straight into registers and a tile
// ahead: SHARERS invocations share a key's dimensions, and later LANES invocations share out the keys of one vec4 of the values. Only
// scores and their exponentials pass through workgroup memory. A split without keys reports l = 0 and m = LOWEST.
//
// Registers that wait for memory have names instead of indices: arrays of them end up in memory. Those with a number of 4 and above
// are for head_dim 128.
//
// Header: HEAD_DIM, KV_BLOCK, GROUP, UNROLLED: whether loops over the group have a constant bound, so that its sums lie in registers.
// CPU drivers take long to compile that, and have no registers to gain. KEYS divides KV_BLOCK and tiles start at multiples of KEYS, so
// a tile lies in one block.

struct Params {
    n_kv_heads: u32,
    n_splits: u32,
    blocks_per_slot: u32,
    window: u32,   // last positions that are seen, the row's own included; 0: all
    scale: f32,    // 1 / sqrt(head_dim)
    group: u32,    // GROUP again, as a bound that no compiler can unroll
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;             // [n_tokens, n_kv_heads * GROUP, head_dim]
@group(0) @binding(1) var<storage, read> k_cache: array<KvVec>;           // [n_blocks, n_kv_heads, KV_BLOCK, head_dim]
@group(0) @binding(2) var<storage, read> v_cache: array<KvVec>;           // the same
@group(0) @binding(3) var<storage, read> rows: array<Row>;                // [n_tokens]
@group(0) @binding(4) var<storage, read> block_table: array<u32>;         // [n_slots, blocks_per_slot]
@group(0) @binding(5) var<storage, read_write> partials: array<vec4<f32>>; // [n_tokens, n_heads, n_splits, head_dim]; one split: the output
@group(0) @binding(6) var<storage, read_write> stats: array<vec2<f32>>;   // (m, l): [n_tokens, n_heads, n_splits]

const WORKGROUP: u32 = 128u;
const KEYS: u32 = 32u;
const LOWEST: f32 = -3.0e38;
const WIDE: bool = HEAD_DIM == 128u;
const SHARERS: u32 = WORKGROUP / KEYS;
const LANES: u32 = WORKGROUP / HEAD_VECS;
const V_STEP: u32 = LANES * HEAD_VECS;           // from one of an invocation's values to the next
const KEY_STRIDE: u32 = KEYS + 1u;               // padded: neighbouring heads lie in different banks
const JOINED: u32 = 4u;                          // heads whose lanes are joined at once in the end

var<workgroup> sh_q: array<vec4<f32>, GROUP * HEAD_VECS>;
var<workgroup> sh_shares: array<f32, SHARERS * GROUP * KEY_STRIDE>; // of the scores
var<workgroup> sh_p: array<f32, GROUP * KEY_STRIDE>; // scores, then their exponentials
var<workgroup> sh_max: array<f32, GROUP * SHARERS>;
var<workgroup> sh_m: array<f32, 2u * GROUP>;     // maxima before and after a tile, which take turns
var<workgroup> sh_alpha: array<f32, GROUP>;      // what the old sums are worth under the new maximum
var<workgroup> sh_sum: array<f32, GROUP * LANES>;
var<workgroup> sh_acc: array<vec4<f32>, JOINED * WORKGROUP>;

fn n_group() -> u32 {
    return select(params.group, GROUP, UNROLLED == 1u);
}

// Where a tile starts in the caches, in vec4s.
fn tile_start(row: Row, tile: u32, kv_head: u32) -> u32 {
    let block = block_table[row.slot * params.blocks_per_slot + tile * KEYS / KV_BLOCK];
    return kv_index(block, kv_head, params.n_kv_heads, tile * KEYS % KV_BLOCK);
}

fn new_maximum(g: u32, turn: u32) -> f32 {
    var m = sh_m[turn * GROUP + g];
    for (var i = 0u; i < SHARERS; i++) {
        m = max(m, sh_max[g * SHARERS + i]);
    }
    return m;
}

// The value, unless no row may see it: such an entry can hold anything, and zero times a NaN is none.
fn seen_value(v: KvVec, key: u32, first: u32, last: u32) -> vec4<f32> {
    return select(vec4<f32>(0.0), from_kv(v), key >= first && key <= last);
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
        sh_m[GROUP + index] = LOWEST;
    }
    let my_key = index / SHARERS;
    let sharer = index % SHARERS;
    let lane = index / HEAD_VECS;
    let d = index % HEAD_VECS;
    let my_k = my_key * HEAD_VECS + sharer; // sharers alternate, so that neighbours read neighbouring vec4s
    let my_v = lane * HEAD_VECS + d;
    var acc: array<vec4<f32>, GROUP>;
    var sum: array<f32, GROUP>;
    var turn = 0u;

    // a split without tiles fetches the last one for nothing
    var base = tile_start(row, min(tile_begin, last_seen / KEYS), kv_head);
    var k0 = k_cache[base + my_k];
    var k1 = k_cache[base + my_k + SHARERS];
    var k2 = k_cache[base + my_k + 2u * SHARERS];
    var k3 = k_cache[base + my_k + 3u * SHARERS];
    var k4 = k0;
    var k5 = k0;
    var k6 = k0;
    var k7 = k0;
    if WIDE {
        k4 = k_cache[base + my_k + 4u * SHARERS];
        k5 = k_cache[base + my_k + 5u * SHARERS];
        k6 = k_cache[base + my_k + 6u * SHARERS];
        k7 = k_cache[base + my_k + 7u * SHARERS];
    }
    workgroupBarrier(); // q and m are in place

    for (var tile = tile_begin; tile < tile_end; tile++) {
        let key0 = tile * KEYS;
        let v0 = v_cache[base + my_v];
        let v1 = v_cache[base + my_v + V_STEP];
        let v2 = v_cache[base + my_v + 2u * V_STEP];
        let v3 = v_cache[base + my_v + 3u * V_STEP];
        var v4 = v0;
        var v5 = v0;
        var v6 = v0;
        var v7 = v0;
        if WIDE {
            v4 = v_cache[base + my_v + 4u * V_STEP];
            v5 = v_cache[base + my_v + 5u * V_STEP];
            v6 = v_cache[base + my_v + 6u * V_STEP];
            v7 = v_cache[base + my_v + 7u * V_STEP];
        }
        for (var g = 0u; g < n_group(); g++) {
            let at = g * HEAD_VECS + sharer;
            var s = dot(sh_q[at], from_kv(k0)) + dot(sh_q[at + SHARERS], from_kv(k1));
            s += dot(sh_q[at + 2u * SHARERS], from_kv(k2)) + dot(sh_q[at + 3u * SHARERS], from_kv(k3));
            if WIDE {
                s += dot(sh_q[at + 4u * SHARERS], from_kv(k4)) + dot(sh_q[at + 5u * SHARERS], from_kv(k5));
                s += dot(sh_q[at + 6u * SHARERS], from_kv(k6)) + dot(sh_q[at + 7u * SHARERS], from_kv(k7));
            }
            sh_shares[(sharer * GROUP + g) * KEY_STRIDE + my_key] = s;
        }
        base = tile_start(row, min(tile + 1u, last_seen / KEYS), kv_head);
        k0 = k_cache[base + my_k];
        k1 = k_cache[base + my_k + SHARERS];
        k2 = k_cache[base + my_k + 2u * SHARERS];
        k3 = k_cache[base + my_k + 3u * SHARERS];
        if WIDE {
            k4 = k_cache[base + my_k + 4u * SHARERS];
            k5 = k_cache[base + my_k + 5u * SHARERS];
            k6 = k_cache[base + my_k + 6u * SHARERS];
            k7 = k_cache[base + my_k + 7u * SHARERS];
        }
        workgroupBarrier(); // the shares of all scores are in place
        for (var i = index; i < GROUP * KEYS; i += WORKGROUP) {
            let g = i / KEYS;
            let key = i % KEYS;
            var s = 0.0;
            for (var other = 0u; other < SHARERS; other++) {
                s += sh_shares[(other * GROUP + g) * KEY_STRIDE + key];
            }
            let seen = key0 + key >= first_seen && key0 + key <= last_seen;
            sh_p[g * KEY_STRIDE + key] = select(LOWEST, s * params.scale, seen);
        }
        workgroupBarrier(); // the scores are in place
        if index < GROUP * SHARERS {
            let first = my_key * KEY_STRIDE + sharer * (KEYS / SHARERS); // here my_key counts heads
            var largest = LOWEST;
            for (var i = 0u; i < KEYS / SHARERS; i++) {
                largest = max(largest, sh_p[first + i]);
            }
            sh_max[index] = largest;
        }
        workgroupBarrier(); // maxima of quarters of the scores are in place
        for (var i = index; i < GROUP * KEYS; i += WORKGROUP) {
            let at = i / KEYS * KEY_STRIDE + i % KEYS;
            let s = sh_p[at];
            sh_p[at] = select(0.0, exp(s - new_maximum(i / KEYS, turn)), s > LOWEST);
        }
        if index < GROUP {
            let m = new_maximum(index, turn);
            sh_alpha[index] = exp(sh_m[turn * GROUP + index] - m);
            sh_m[(1u - turn) * GROUP + index] = m;
        }
        workgroupBarrier(); // exponentials, factors and maxima are in place
        let f0 = seen_value(v0, key0 + lane, first_seen, last_seen);
        let f1 = seen_value(v1, key0 + lane + LANES, first_seen, last_seen);
        let f2 = seen_value(v2, key0 + lane + 2u * LANES, first_seen, last_seen);
        let f3 = seen_value(v3, key0 + lane + 3u * LANES, first_seen, last_seen);
        let f4 = seen_value(v4, key0 + lane + 4u * LANES, first_seen, last_seen);
        let f5 = seen_value(v5, key0 + lane + 5u * LANES, first_seen, last_seen);
        let f6 = seen_value(v6, key0 + lane + 6u * LANES, first_seen, last_seen);
        let f7 = seen_value(v7, key0 + lane + 7u * LANES, first_seen, last_seen);
        for (var g = 0u; g < n_group(); g++) {
            let at = g * KEY_STRIDE + lane;
            let p = vec4<f32>(sh_p[at], sh_p[at + LANES], sh_p[at + 2u * LANES], sh_p[at + 3u * LANES]);
            var more = p.x * f0 + p.y * f1 + p.z * f2 + p.w * f3;
            var more_sum = p.x + p.y + p.z + p.w;
            if WIDE {
                let r = vec4<f32>(sh_p[at + 4u * LANES], sh_p[at + 5u * LANES], sh_p[at + 6u * LANES], sh_p[at + 7u * LANES]);
                more += r.x * f4 + r.y * f5 + r.z * f6 + r.w * f7;
                more_sum += r.x + r.y + r.z + r.w;
            }
            acc[g] = acc[g] * sh_alpha[g] + more;
            sum[g] = sum[g] * sh_alpha[g] + more_sum;
        }
        turn = 1u - turn;
    }
    if d == 0u {
        for (var g = 0u; g < n_group(); g++) {
            sh_sum[g * LANES + lane] = sum[g];
        }
    }
    for (var g0 = 0u; g0 < n_group(); g0 += JOINED) {
        workgroupBarrier(); // m and sums are in place; the heads before have been written
        for (var j = 0u; j < JOINED; j++) {
            if g0 + j < GROUP {
                sh_acc[j * WORKGROUP + index] = acc[g0 + j];
            }
        }
        workgroupBarrier(); // every lane's share is in place
        for (var j = lane; j < min(JOINED, GROUP - g0); j += LANES) {
            let g = g0 + j;
            var joined = sh_acc[j * WORKGROUP + d];
            var l = sh_sum[g * LANES];
            for (var other = 1u; other < LANES; other++) {
                joined += sh_acc[j * WORKGROUP + other * HEAD_VECS + d];
                l += sh_sum[g * LANES + other];
            }
            let o = (t * n_heads + kv_head * GROUP + g) * params.n_splits + split;
            partials[o * HEAD_VECS + d] = select(joined, joined / l, params.n_splits == 1u);
            if d == 0u {
                stats[o] = vec2<f32>(sh_m[turn * GROUP + g], l);
            }
        }
    }
}
