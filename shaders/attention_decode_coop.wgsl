// GQA flash attention for few query rows on the matrix units, split over the context. Twin of attention_decode.wgsl; attention_merge
// joins the splits of either.
//
// One workgroup owns (split, kv head, token): all GROUP query heads that share the kv head, as rows of matrices, over a stretch of the
// context in whole blocks of the cache. It walks in chunks of CHUNK keys. Keys and values take turns in one tile of workgroup memory,
// where values that the row does not see become zeros, and in one set of registers: while keys are used, the values of the same chunk
// are under way, and while values are used, the next chunk's keys. For the scores each of the 8 subgroups owns TILE keys. For the softmax
// a subgroup owns rows of scores, so that maxima and sums need no workgroup memory. For the outputs it owns TILE dimensions, with
// head_dim 64 of one half of the keys.
//
// Whatever is fetched ahead is fetched without a condition, so that a register is written in one place and nothing has to be moved, and
// so waited for, where branches meet: beyond the last chunk all invocations read one and the same word instead.
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
const FETCHED: u32 = CHUNK * HEAD_VECS / WORKGROUP; // vec4s of a chunk's keys or values that an invocation fetches: 16, 8 or 4
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
var<workgroup> sh_kv: array<KvVec, CHUNK * V_STRIDE>;   // keys and values in turn
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

// An invocation's share of a chunk's keys or values; those beyond FETCHED are not used.
struct Share {
    a: KvVec,
    b: KvVec,
    c: KvVec,
    d: KvVec,
    e: KvVec,
    f: KvVec,
    g: KvVec,
    h: KvVec,
    i: KvVec,
    j: KvVec,
    k: KvVec,
    l: KvVec,
    m: KvVec,
    n: KvVec,
    o: KvVec,
    p: KvVec,
}

// Where number i of a share lies. Those with the same i lie in one block.
fn place(start: vec2<u32>, i: u32, index: u32) -> u32 {
    let at = i * WORKGROUP;
    return select(start.x, start.y, at >= BLOCK_VECS) + at % BLOCK_VECS + index;
}

fn fetch_keys(start: vec2<u32>, index: u32) -> Share {
    var s = Share();
    s.a = k_cache[place(start, 0u, index)];
    s.b = k_cache[place(start, 1u, index)];
    s.c = k_cache[place(start, 2u, index)];
    s.d = k_cache[place(start, 3u, index)];
    if FETCHED > 4u {
        s.e = k_cache[place(start, 4u, index)];
        s.f = k_cache[place(start, 5u, index)];
        s.g = k_cache[place(start, 6u, index)];
        s.h = k_cache[place(start, 7u, index)];
    }
    if FETCHED > 8u {
        s.i = k_cache[place(start, 8u, index)];
        s.j = k_cache[place(start, 9u, index)];
        s.k = k_cache[place(start, 10u, index)];
        s.l = k_cache[place(start, 11u, index)];
        s.m = k_cache[place(start, 12u, index)];
        s.n = k_cache[place(start, 13u, index)];
        s.o = k_cache[place(start, 14u, index)];
        s.p = k_cache[place(start, 15u, index)];
    }
    return s;
}

fn fetch_values(start: vec2<u32>, index: u32) -> Share {
    var s = Share();
    s.a = v_cache[place(start, 0u, index)];
    s.b = v_cache[place(start, 1u, index)];
    s.c = v_cache[place(start, 2u, index)];
    s.d = v_cache[place(start, 3u, index)];
    if FETCHED > 4u {
        s.e = v_cache[place(start, 4u, index)];
        s.f = v_cache[place(start, 5u, index)];
        s.g = v_cache[place(start, 6u, index)];
        s.h = v_cache[place(start, 7u, index)];
    }
    if FETCHED > 8u {
        s.i = v_cache[place(start, 8u, index)];
        s.j = v_cache[place(start, 9u, index)];
        s.k = v_cache[place(start, 10u, index)];
        s.l = v_cache[place(start, 11u, index)];
        s.m = v_cache[place(start, 12u, index)];
        s.n = v_cache[place(start, 13u, index)];
        s.o = v_cache[place(start, 14u, index)];
        s.p = v_cache[place(start, 15u, index)];
    }
    return s;
}

fn put_key(k: KvVec, i: u32, index: u32) {
    let at = i * WORKGROUP + index;
    sh_kv[at / HEAD_VECS * V_STRIDE + at % HEAD_VECS] = k;
}

// Keys that the row does not see may hold anything: no score of theirs is used.
fn put_keys(s: Share, index: u32) {
    put_key(s.a, 0u, index);
    put_key(s.b, 1u, index);
    put_key(s.c, 2u, index);
    put_key(s.d, 3u, index);
    if FETCHED > 4u {
        put_key(s.e, 4u, index);
        put_key(s.f, 5u, index);
        put_key(s.g, 6u, index);
        put_key(s.h, 7u, index);
    }
    if FETCHED > 8u {
        put_key(s.i, 8u, index);
        put_key(s.j, 9u, index);
        put_key(s.k, 10u, index);
        put_key(s.l, 11u, index);
        put_key(s.m, 12u, index);
        put_key(s.n, 13u, index);
        put_key(s.o, 14u, index);
        put_key(s.p, 15u, index);
    }
}

// Zeros for values that the row does not see: those may hold anything, and zero times a NaN is none. seen: from x up to y, in the chunk.
fn put_value(v: KvVec, i: u32, seen: vec2<u32>, index: u32) {
    let at = i * WORKGROUP + index;
    let key = at / HEAD_VECS;
    sh_kv[key * V_STRIDE + at % HEAD_VECS] = select(KvVec(), v, key >= seen.x && key < seen.y);
}

fn put_values(s: Share, seen: vec2<u32>, index: u32) {
    put_value(s.a, 0u, seen, index);
    put_value(s.b, 1u, seen, index);
    put_value(s.c, 2u, seen, index);
    put_value(s.d, 3u, seen, index);
    if FETCHED > 4u {
        put_value(s.e, 4u, seen, index);
        put_value(s.f, 5u, seen, index);
        put_value(s.g, 6u, seen, index);
        put_value(s.h, 7u, seen, index);
    }
    if FETCHED > 8u {
        put_value(s.i, 8u, seen, index);
        put_value(s.j, 9u, seen, index);
        put_value(s.k, 10u, seen, index);
        put_value(s.l, 11u, seen, index);
        put_value(s.m, 12u, seen, index);
        put_value(s.n, 13u, seen, index);
        put_value(s.o, 14u, seen, index);
        put_value(s.p, 15u, seen, index);
    }
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

    // a split without blocks fetches the last one's keys for nothing
    let last_block = row.pos / KV_BLOCK;
    var start = chunk_start(row, min(begin, last_block), kv_head);
    var next_start = chunk_start(row, min(begin + CHUNK / KV_BLOCK, last_block), kv_head);
    let query0 = fetch_query(group.z, kv_head, subgroup, lane);
    let query1 = fetch_query(group.z, kv_head, subgroup + N_SUBGROUPS, lane);
    var fetched = fetch_keys(start, index);

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
    let q4 = coopLoadT<MatA>(&sh_p[HALF], Q_STRIDE); // for head_dim 128
    let q5 = coopLoadT<MatA>(&sh_p[HALF + STEP], Q_STRIDE);
    let q6 = coopLoadT<MatA>(&sh_p[HALF + 2u * STEP], Q_STRIDE);
    let q7 = coopLoadT<MatA>(&sh_p[HALF + 3u * STEP], Q_STRIDE);

    let mine = subgroup * TILE; // this subgroup's columns of sh_s
    let first_key = subgroup / N_DIMS * SHARE;
    let my_p = first_key / 4u;
    let my_k = mine * V_STRIDE;
    let my_v = first_key * V_STRIDE + subgroup % N_DIMS * STEP;
    var state0 = vec2<f32>(LOWEST, 0.0);
    var state1 = vec2<f32>(LOWEST, 0.0);
    var out0 = vec4<f32>(0.0);
    var out1 = vec4<f32>(0.0); // where there are more outputs than invocations

    for (var block = begin; block < end; block += CHUNK / KV_BLOCK) {
        let key0 = block * KV_BLOCK;
        let seen = vec2<u32>(max(first_seen, key0), min(row.pos + 1u, end * KV_BLOCK)) - key0; // may lie beyond the chunk
        let next = block + CHUNK / KV_BLOCK;
        let there = next < end;
        put_keys(fetched, index);
        fetched = fetch_values(start, index);
        workgroupBarrier(); // the keys are in place, the outputs of the chunk before have been added
        var s = MatC();
        s = coopMultiplyAdd(q0, coopLoad<MatB>(&sh_kv[my_k], V_STRIDE), s);
        s = coopMultiplyAdd(q1, coopLoad<MatB>(&sh_kv[my_k + STEP], V_STRIDE), s);
        s = coopMultiplyAdd(q2, coopLoad<MatB>(&sh_kv[my_k + 2u * STEP], V_STRIDE), s);
        s = coopMultiplyAdd(q3, coopLoad<MatB>(&sh_kv[my_k + 3u * STEP], V_STRIDE), s);
        if WIDE {
            s = coopMultiplyAdd(q4, coopLoad<MatB>(&sh_kv[my_k + 4u * STEP], V_STRIDE), s);
            s = coopMultiplyAdd(q5, coopLoad<MatB>(&sh_kv[my_k + 5u * STEP], V_STRIDE), s);
            s = coopMultiplyAdd(q6, coopLoad<MatB>(&sh_kv[my_k + 6u * STEP], V_STRIDE), s);
            s = coopMultiplyAdd(q7, coopLoad<MatB>(&sh_kv[my_k + 7u * STEP], V_STRIDE), s);
        }
        let scores = s;
        coopStoreT(scores, &sh_s[mine], S_STRIDE);
        workgroupBarrier(); // the scores are in place, the keys have been used, the queries are in registers
        state0 = soften(subgroup, score_scale0, seen, state0, lane);
        if GROUP > N_SUBGROUPS {
            state1 = soften(subgroup + N_SUBGROUPS, score_scale1, seen, state1, lane);
        }
        put_values(fetched, seen, index);
        start = next_start;
        fetched = fetch_keys(select(vec2<u32>(start.x), start, there), select(0u, index, there));
        next_start = chunk_start(row, min(next + CHUNK / KV_BLOCK, last_block), kv_head);
        workgroupBarrier(); // exponentials and values are in place, the scores have been used
        var o = MatC();
        for (var key = 0u; key < SHARE; key += TILE) {
            let p = my_p + key / 4u;
            let v = my_v + key * V_STRIDE;
            o = coopMultiplyAdd(coopLoadT<MatA>(&sh_p[p], P_STRIDE), coopLoadT<MatB>(&sh_kv[v], V_STRIDE), o);
        }
        let outputs = o;
        coopStoreT(outputs, &sh_s[mine], S_STRIDE);
        workgroupBarrier(); // the outputs are in place, the values have been used
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
