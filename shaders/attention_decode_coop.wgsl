// GQA flash attention for few query rows on the matrix units, split over the context. Twin of attention_decode.wgsl; attention_merge
// joins the splits of either.
//
// One workgroup owns (split, kv head, token): all GROUP query heads that share the kv head, as rows of matrices, over a stretch of the
// context in whole blocks of the cache. It walks in chunks of CHUNK keys. For the scores each of the 8 subgroups owns TILE keys, loaded as
// a matrix from where they lie. For the softmax a subgroup owns rows of scores, so that maxima and sums need no workgroup memory. For the
// outputs it owns TILE dimensions, with head_dim 64 of one half of the keys: values go through workgroup memory, where those that the
// row does not see become zeros. The next chunk's keys and values are under way meanwhile.
//
// The elements of a cooperative matrix cannot be scaled row by row where they are: a chunk's outputs go through workgroup memory, and
// are added to what each invocation keeps of the chunks before (Milakov and Gimelshein 2018; Dao et al. 2022). Queries, keys,
// exponentials and values are f16; scores, maxima, sums and outputs f32. Rows of matrices beyond GROUP hold whatever was there: no
// row reaches another. A split without keys reports l = 0 and m = LOWEST. A single split divides by its sums, and needs no merge.
//
// Registers that wait for memory have names instead of indices: arrays of them end up in memory.
//
// Header: SUBGROUP, HEAD_DIM, KV_BLOCK, GROUP. Needs shared/coop_16_f16.wgsl.

struct Params {
    n_kv_heads: u32,
    n_splits: u32,
    blocks_per_slot: u32,
    window: u32,   // last positions that are seen, the row's own included; 0: all
    scale: f32,    // 1 / sqrt(head_dim)
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;             // [n_tokens, n_kv_heads * GROUP, head_dim]
@group(0) @binding(1) var<storage, read> k_cache: array<KvVec>;           // [n_blocks, n_kv_heads, KV_BLOCK, head_dim]
@group(0) @binding(2) var<storage, read> v_cache: array<KvVec>;           // the same
@group(0) @binding(3) var<storage, read> rows: array<Row>;                // [n_tokens]
@group(0) @binding(4) var<storage, read> block_table: array<u32>;         // [n_slots, blocks_per_slot]
@group(0) @binding(5) var<storage, read_write> partials: array<vec4<f32>>; // [n_tokens, n_heads, n_splits, head_dim]; one split: the output
@group(0) @binding(6) var<storage, read_write> stats: array<vec2<f32>>;   // (m, l): [n_tokens, n_heads, n_splits]

const N_SUBGROUPS: u32 = 8u;
const WORKGROUP: u32 = N_SUBGROUPS * SUBGROUP;
const CHUNK: u32 = N_SUBGROUPS * TILE;           // keys; two blocks of the cache
const STEP: u32 = TILE / 4u;                     // from one matrix to the next along a query, key or value, in vec4s
const BLOCK_VECS: u32 = KV_BLOCK * HEAD_VECS;
const FETCHED: u32 = CHUNK * HEAD_VECS / WORKGROUP; // vec4s of a chunk's values that an invocation fetches: 16, 8 or 4
const WIDE: bool = HEAD_DIM == 128u;
const HALF: u32 = HEAD_VECS - 16u;               // from the first to the fifth matrix along a query, if there are so many
const N_DIMS: u32 = HEAD_DIM / TILE;             // matrices along the dimensions: 8, or 4 for each half of the keys
const SHARE: u32 = CHUNK * N_DIMS / N_SUBGROUPS; // keys that a subgroup sums over
const SHARERS: u32 = CHUNK / 4u;                 // lanes that share a row of scores
const N_OUT: u32 = GROUP * HEAD_VECS;            // vec4s of outputs
const V_STRIDE: u32 = HEAD_VECS + 2u;               // strides are padded: neighbouring rows lie in different banks
const S_STRIDE: u32 = CHUNK + 4u;
const P_STRIDE: u32 = CHUNK / 4u + 2u;           // in vec4s
const Q_STRIDE: u32 = HEAD_VECS + 2u;            // no more than P_STRIDE
const LOWEST: f32 = -3.0e38;

// Cooperative matrices are loaded from multiples of 16 bytes, and drivers put these one after the other: each is a multiple of 16 long.
var<workgroup> sh_v: array<KvVec, CHUNK * V_STRIDE>;
var<workgroup> sh_s: array<f32, TILE * S_STRIDE>;       // scores, then outputs
var<workgroup> sh_p: array<vec4<f16>, TILE * P_STRIDE>; // queries first, then exponentials
var<workgroup> sh_state: array<vec4<f32>, TILE>;        // of each row: maximum, sum, and what the outputs before are worth under the maximum

// Where two blocks' keys or values of this kv head start.
fn chunk_start(row: Row, block: u32, kv_head: u32) -> vec2<u32> {
    let entry = row.slot * params.blocks_per_slot;
    let second = min(block + 1u, row.pos / KV_BLOCK); // a block without keys stays unread
    return vec2<u32>(
        kv_index(block_table[entry + block], kv_head, params.n_kv_heads, 0u),
        kv_index(block_table[entry + second], kv_head, params.n_kv_heads, 0u),
    );
}

struct Four {
    a: KvVec,
    b: KvVec,
    c: KvVec,
    d: KvVec,
}

// Number i of an invocation's shares of the values. Those with the same i lie in one block.
fn value(start: vec2<u32>, i: u32, index: u32) -> KvVec {
    let at = i * WORKGROUP;
    return v_cache[select(start.x, start.y, at >= BLOCK_VECS) + at % BLOCK_VECS + index];
}

fn fetch_four(start: vec2<u32>, i: u32, index: u32) -> Four {
    return Four(value(start, i, index), value(start, i + 1u, index), value(start, i + 2u, index), value(start, i + 3u, index));
}

// Zeros for values that the row does not see: those may hold anything, and zero times a NaN is none. seen: from x up to y, in the chunk.
fn put_value(v: KvVec, i: u32, seen: vec2<u32>, index: u32) {
    let at = i * WORKGROUP + index;
    let key = at / HEAD_VECS;
    sh_v[key * V_STRIDE + at % HEAD_VECS] = select(KvVec(), v, key >= seen.x && key < seen.y);
}

fn put_four(v: Four, i: u32, seen: vec2<u32>, index: u32) {
    put_value(v.a, i, seen, index);
    put_value(v.b, i + 1u, seen, index);
    put_value(v.c, i + 2u, seen, index);
    put_value(v.d, i + 3u, seen, index);
}

// A lane's share of a query; rows beyond GROUP repeat the last.
fn fetch_query(t: u32, kv_head: u32, r: u32, lane: u32) -> vec4<f32> {
    let head = (t * params.n_kv_heads + kv_head) * GROUP + min(r, GROUP - 1u);
    return q[head * HEAD_VECS + lane % HEAD_VECS];
}

// Puts a query, times a power of two that brings its largest magnitude into [2^14, 2^15), as in to_f16.wgsl; returns what its scores
// have to be multiplied by.
fn put_query(share: vec4<f32>, r: u32, lane: u32) -> f32 {
    let sizes = abs(share);
    let largest = subgroupMax(max(max(sizes.x, sizes.y), max(sizes.z, sizes.w)));
    let exponent = clamp(bitcast<u32>(largest) >> 23u, 15u, 254u);
    if lane < HEAD_VECS {
        sh_p[r * Q_STRIDE + lane] = vec4<f16>(share * bitcast<f32>((268u - exponent) << 23u));
    }
    return params.scale * bitcast<f32>((exponent - 14u) << 23u);
}

// One row's scores to exponentials under a maximum that is new with each chunk. before and the result: maximum and sum.
fn soften(r: u32, score_scale: f32, seen: vec2<u32>, before: vec2<f32>, lane: u32) -> vec2<f32> {
    let key = 4u * min(lane, SHARERS - 1u);
    let at = r * S_STRIDE + key;
    let keys = vec4<u32>(key, key + 1u, key + 2u, key + 3u);
    let is_seen = (keys >= vec4<u32>(seen.x)) & (keys < vec4<u32>(seen.y)) & vec4<bool>(lane < SHARERS);
    let scores = vec4<f32>(sh_s[at], sh_s[at + 1u], sh_s[at + 2u], sh_s[at + 3u]) * score_scale;
    let s = select(vec4<f32>(LOWEST), scores, is_seen);
    let m = max(before.x, subgroupMax(max(max(s.x, s.y), max(s.z, s.w)))); // some key of a chunk is always seen
    let p = vec4<f16>(select(vec4<f32>(0.0), exp(s - m), is_seen));
    let weights = vec4<f32>(p); // as rounded, so that the weights sum to one
    let alpha = exp(before.x - m);
    let l = before.y * alpha + subgroupAdd(weights.x + weights.y + weights.z + weights.w);
    if lane < SHARERS {
        sh_p[r * P_STRIDE + lane] = p;
    }
    if lane == 0u {
        sh_state[r] = vec4<f32>(m, l, alpha, 0.0);
    }
    return vec2<f32>(m, l);
}

// A vec4 of outputs, number `item`, with this chunk's part of it.
fn with_chunk(before: vec4<f32>, item: u32) -> vec4<f32> {
    let r = min(item / HEAD_VECS, GROUP - 1u);
    let at = r * S_STRIDE + item % HEAD_VECS * 4u;
    var more = vec4<f32>(sh_s[at], sh_s[at + 1u], sh_s[at + 2u], sh_s[at + 3u]);
    if !WIDE { // the other half of the keys
        more += vec4<f32>(sh_s[at + HEAD_DIM], sh_s[at + HEAD_DIM + 1u], sh_s[at + HEAD_DIM + 2u], sh_s[at + HEAD_DIM + 3u]);
    }
    return before * sh_state[r].z + more;
}

fn hand_out(outputs: vec4<f32>, item: u32, group: vec3<u32>) {
    if item < N_OUT {
        let r = item / HEAD_VECS;
        let d = item % HEAD_VECS;
        let head = (group.z * params.n_kv_heads + group.y) * GROUP + r;
        let o = head * params.n_splits + group.x;
        let state = sh_state[r];
        partials[o * HEAD_VECS + d] = select(outputs, outputs / state.y, params.n_splits == 1u);
        if d == 0u {
            stats[o] = state.xy;
        }
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let kv_head = group.y;
    let row = rows[group.z];
    var first_seen = 0u;
    if params.window != 0u && row.pos >= params.window {
        first_seen = row.pos + 1u - params.window;
    }
    // equal shares in whole blocks, counted from the block that holds the first visible key
    let block0 = first_seen / KV_BLOCK;
    let n_blocks = row.pos / KV_BLOCK + 1u - block0;
    let share = (n_blocks + params.n_splits - 1u) / params.n_splits;
    let begin = block0 + group.x * share;
    let end = min(begin + share, block0 + n_blocks);

    // all that the first chunk needs is under way at once; a split without blocks fetches the last one for nothing
    let query0 = fetch_query(group.z, kv_head, subgroup, lane);
    let query1 = fetch_query(group.z, kv_head, subgroup + N_SUBGROUPS, lane);
    var start = chunk_start(row, min(begin, row.pos / KV_BLOCK), kv_head);
    let in_block = subgroup * TILE % KV_BLOCK * HEAD_VECS;
    let is_second = subgroup * TILE >= KV_BLOCK;
    var my_k = select(start.x, start.y, is_second) + in_block;
    var k0 = coopLoad<MatB>(&k_cache[my_k], HEAD_VECS);
    var k1 = coopLoad<MatB>(&k_cache[my_k + STEP], HEAD_VECS);
    var k2 = coopLoad<MatB>(&k_cache[my_k + 2u * STEP], HEAD_VECS);
    var k3 = coopLoad<MatB>(&k_cache[my_k + 3u * STEP], HEAD_VECS);
    var k4 = k0;
    var k5 = k0;
    var k6 = k0;
    var k7 = k0;
    if WIDE {
        k4 = coopLoad<MatB>(&k_cache[my_k + 4u * STEP], HEAD_VECS);
        k5 = coopLoad<MatB>(&k_cache[my_k + 5u * STEP], HEAD_VECS);
        k6 = coopLoad<MatB>(&k_cache[my_k + 6u * STEP], HEAD_VECS);
        k7 = coopLoad<MatB>(&k_cache[my_k + 7u * STEP], HEAD_VECS);
    }
    var v0 = fetch_four(start, 0u, index);
    var v1 = v0;
    var v2 = v0;
    var v3 = v0;
    if FETCHED > 4u {
        v1 = fetch_four(start, 4u, index);
    }
    if FETCHED > 8u {
        v2 = fetch_four(start, 8u, index);
        v3 = fetch_four(start, 12u, index);
    }

    let score_scale0 = put_query(query0, subgroup, lane);
    var score_scale1 = 0.0;
    if GROUP > N_SUBGROUPS {
        score_scale1 = put_query(query1, subgroup + N_SUBGROUPS, lane);
    }
    if index < TILE {
        sh_state[index] = vec4<f32>(LOWEST, 0.0, 0.0, 0.0);
    }
    workgroupBarrier(); // queries are in place
    let q0 = coopLoadT<MatA>(&sh_p[0], Q_STRIDE);
    let q1 = coopLoadT<MatA>(&sh_p[STEP], Q_STRIDE);
    let q2 = coopLoadT<MatA>(&sh_p[2u * STEP], Q_STRIDE);
    let q3 = coopLoadT<MatA>(&sh_p[3u * STEP], Q_STRIDE);
    let q4 = coopLoadT<MatA>(&sh_p[HALF], Q_STRIDE); // for head_dim 128, as k4 to k7
    let q5 = coopLoadT<MatA>(&sh_p[HALF + STEP], Q_STRIDE);
    let q6 = coopLoadT<MatA>(&sh_p[HALF + 2u * STEP], Q_STRIDE);
    let q7 = coopLoadT<MatA>(&sh_p[HALF + 3u * STEP], Q_STRIDE);

    let mine = subgroup * TILE; // this subgroup's columns of sh_s
    let first_key = subgroup / N_DIMS * SHARE;
    let my_p = first_key / 4u;
    let my_v = first_key * V_STRIDE + subgroup % N_DIMS * STEP;
    var state0 = vec2<f32>(LOWEST, 0.0);
    var state1 = vec2<f32>(LOWEST, 0.0);
    var out0 = vec4<f32>(0.0);
    var out1 = vec4<f32>(0.0); // where there are more outputs than invocations

    for (var block = begin; block < end; block += CHUNK / KV_BLOCK) {
        let key0 = block * KV_BLOCK;
        let seen = vec2<u32>(max(first_seen, key0), min(row.pos + 1u, end * KV_BLOCK)) - key0; // may lie beyond the chunk
        let next = block + CHUNK / KV_BLOCK;
        var s = MatC();
        s = coopMultiplyAdd(q0, k0, s);
        s = coopMultiplyAdd(q1, k1, s);
        s = coopMultiplyAdd(q2, k2, s);
        s = coopMultiplyAdd(q3, k3, s);
        if WIDE {
            s = coopMultiplyAdd(q4, k4, s);
            s = coopMultiplyAdd(q5, k5, s);
            s = coopMultiplyAdd(q6, k6, s);
            s = coopMultiplyAdd(q7, k7, s);
        }
        // once, if there is another chunk: an `if` would have to be uniform in the eyes of naga
        for (var ahead = next; ahead < end; ahead = end) {
            start = chunk_start(row, next, kv_head);
            my_k = select(start.x, start.y, is_second) + in_block;
            k0 = coopLoad<MatB>(&k_cache[my_k], HEAD_VECS);
            k1 = coopLoad<MatB>(&k_cache[my_k + STEP], HEAD_VECS);
            k2 = coopLoad<MatB>(&k_cache[my_k + 2u * STEP], HEAD_VECS);
            k3 = coopLoad<MatB>(&k_cache[my_k + 3u * STEP], HEAD_VECS);
            if WIDE {
                k4 = coopLoad<MatB>(&k_cache[my_k + 4u * STEP], HEAD_VECS);
                k5 = coopLoad<MatB>(&k_cache[my_k + 5u * STEP], HEAD_VECS);
                k6 = coopLoad<MatB>(&k_cache[my_k + 6u * STEP], HEAD_VECS);
                k7 = coopLoad<MatB>(&k_cache[my_k + 7u * STEP], HEAD_VECS);
            }
        }
        workgroupBarrier(); // the outputs of the chunk before have been added
        let scores = s;
        coopStoreT(scores, &sh_s[mine], S_STRIDE);
        workgroupBarrier(); // the scores are in place, the queries are in registers
        state0 = soften(subgroup, score_scale0, seen, state0, lane);
        if GROUP > N_SUBGROUPS {
            state1 = soften(subgroup + N_SUBGROUPS, score_scale1, seen, state1, lane);
        }
        put_four(v0, 0u, seen, index);
        if FETCHED > 4u {
            put_four(v1, 4u, seen, index);
        }
        if FETCHED > 8u {
            put_four(v2, 8u, seen, index);
            put_four(v3, 12u, seen, index);
        }
        if next < end {
            v0 = fetch_four(start, 0u, index);
            if FETCHED > 4u {
                v1 = fetch_four(start, 4u, index);
            }
            if FETCHED > 8u {
                v2 = fetch_four(start, 8u, index);
                v3 = fetch_four(start, 12u, index);
            }
        }
        workgroupBarrier(); // exponentials and values are in place, the scores have been used
        var o = MatC();
        for (var key = 0u; key < SHARE; key += TILE) {
            let p = my_p + key / 4u;
            let v = my_v + key * V_STRIDE;
            o = coopMultiplyAdd(coopLoadT<MatA>(&sh_p[p], P_STRIDE), coopLoadT<MatB>(&sh_v[v], V_STRIDE), o);
        }
        let outputs = o;
        coopStoreT(outputs, &sh_s[mine], S_STRIDE);
        workgroupBarrier(); // the outputs are in place
        out0 = with_chunk(out0, index);
        if N_OUT > WORKGROUP {
            out1 = with_chunk(out1, index + WORKGROUP);
        }
    }
    hand_out(out0, index, group);
    if N_OUT > WORKGROUP {
        hand_out(out1, index + WORKGROUP, group);
    }
}
