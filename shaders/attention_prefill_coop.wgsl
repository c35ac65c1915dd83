// GQA flash attention for many query rows on the matrix units. Twin of attention_prefill.wgsl.
//
// The GROUP query heads that share a kv head are folded into the rows of one tile: tile row r is token r / GROUP, head r % GROUP of
// the group. One workgroup owns (tile of TOKENS tokens, kv head) and walks over the keys in tiles of KEYS. Its 8 subgroups share the
// tile out as 4 blocks of 16 rows by 2 halves of the keys for the scores, and as 2 blocks of 32 rows by 4 quarters of the dimensions for
// the output, where a matrix of values serves two of outputs that way. Queries, keys, exponentials and values are f16; scores, maxima,
// sums and outputs f32.
//
// Online softmax (Milakov and Gimelshein 2018; Dao et al. 2022), with one change: the elements of a cooperative matrix cannot be
// scaled row by row where they are, so a row's maximum is only raised when a score exceeds it by SLACK, and exponentials may reach
// e^SLACK meanwhile. Raising it takes the outputs through workgroup memory, which after the first keys is rare.
//
// Workgroup memory's ways are what a tile of keys takes longest for, then waiting. So: scores and exponentials go in vec4s, laid out so that
// neighbours meet different banks; what four or eight neighbours share they pass on by shuffles instead of through memory and a barrier;
// where the next keys lie is looked up a tile ahead; and only tiles that some row does not see whole compare positions.
//
// Header: SUBGROUP, HEAD_DIM, KV_BLOCK, GROUP. KEYS is KV_BLOCK, so a key tile is one block. Needs shared/coop_16_f16.wgsl.

struct Params {
    n_kv_heads: u32,
    blocks_per_slot: u32,
    window: u32,   // last positions that are seen, the row's own included; 0: all
    scale: f32,    // 1 / sqrt(head_dim)
}
var<immediate> params: Params;

// A stretch of rows of the batch that belong to one sequence, in ascending positions.
struct Tile {
    first_row: u32,
    n_rows: u32,   // 1 to TOKENS
}

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;         // [n_tokens, n_kv_heads * GROUP, head_dim]
@group(0) @binding(1) var<storage, read> k_cache: array<KvVec>;       // [n_blocks, n_kv_heads, KV_BLOCK, head_dim]
@group(0) @binding(2) var<storage, read> v_cache: array<KvVec>;       // the same
@group(0) @binding(3) var<storage, read> rows: array<Row>;            // [n_tokens]
@group(0) @binding(4) var<storage, read> block_table: array<u32>;     // [n_slots, blocks_per_slot]
@group(0) @binding(5) var<storage, read> tiles: array<Tile>;          // [n_tiles]
@group(0) @binding(6) var<storage, read_write> out: array<vec4<f32>>; // [n_tokens, n_kv_heads * GROUP, head_dim]

const WORKGROUP: u32 = 8u * SUBGROUP;
const ROWS: u32 = 64u;
const TOKENS: u32 = ROWS / GROUP;
const KEYS: u32 = KV_BLOCK;
const WIDE: u32 = HEAD_DIM / 128u;               // 1 for head_dim 128, 0 for 64
const N_OUT: u32 = HEAD_DIM / (4u * TILE);       // matrices of outputs of a subgroup, side by side
const STEP: u32 = TILE / 4u;                     // from one matrix to the next along a row of any array, in vec4s
const NEXT: u32 = TILE * KV_STRIDE;              // the same from key to key
const BELOW: u32 = TILE * S_STRIDE;              // and from scores to scores, or outputs to outputs
const KV_STRIDE: u32 = HEAD_VECS + 2u;           // padded by 8 halves: neighbouring keys lie in different banks
const S_STRIDE: u32 = KEYS / 4u + 2u;            // in vec4s, as P_STRIDE; padded by 8 of their elements for the same reason
const P_STRIDE: u32 = KEYS / 4u + 2u;
const SHARERS: u32 = WORKGROUP / ROWS;           // neighbours that share a row of scores: 4, or 8 in a subgroup of 64
const SHARE: u32 = KEYS / (4u * SHARERS);        // vec4s of scores that one of them has: 4 or 2
const Q_SHARE: u32 = HEAD_VECS / SHARERS;
const FETCHED: u32 = KEYS * HEAD_VECS / WORKGROUP; // 8, 4 or 2
const LOWEST: f32 = -3.0e38;
const UNSEEN: f32 = -1.0e38;                     // the maximum before any score: e^(LOWEST - UNSEEN) is 0
const LOG2_E: f32 = 1.4426950408889634;
const SLACK: f32 = 11.541560327111707;           // 8 log2(e); e^8 times 64 keys is far from f16's end

// Cooperative matrices are loaded from multiples of 16 bytes, and drivers put these one after the other: each is a multiple of 16 long.
var<workgroup> sh_kv: array<vec4<f16>, KEYS * KV_STRIDE>; // queries first, then keys and values in turn
var<workgroup> sh_s: array<vec4<f32>, ROWS * S_STRIDE>;   // scores; outputs on their way through
var<workgroup> sh_p: array<vec4<f16>, ROWS * P_STRIDE>;   // exponentials
var<workgroup> sh_alpha: array<f32, ROWS>;                // what the old sums are worth under the new maximum; the sums at the end
var<workgroup> sh_raised: array<atomic<u32>, 4>;          // [0]: whether outputs have to be scaled in this tile of keys

// An invocation's part of a tile of keys or values. Names instead of an array, which would end up in memory.
struct Fetched {
    v0: KvVec,
    v1: KvVec,
    v2: KvVec,
    v3: KvVec,
    v4: KvVec,
    v5: KvVec,
    v6: KvVec,
    v7: KvVec,
}

// The tile row's place in q and out, in vec4s.
fn row_start(tile: Tile, kv_head: u32, r: u32) -> u32 {
    let token = tile.first_row + min(r / GROUP, tile.n_rows - 1u);
    return (token * params.n_kv_heads * GROUP + kv_head * GROUP + r % GROUP) * HEAD_VECS;
}

// First position that a row at `pos` sees.
fn first_seen(pos: u32) -> u32 {
    if params.window != 0u && pos >= params.window {
        return pos + 1u - params.window;
    }
    return 0u;
}

// Vec4 number `at` of the block of keys at `base`; zeros for keys outside seen.x to seen.y, which no row sees and which may never have
// been written: an exponential of zero times a NaN would not vanish.
fn key_at(base: u32, seen: vec2<u32>, at: u32) -> KvVec {
    let key = at / HEAD_VECS;
    return select(KvVec(), k_cache[base + at], key >= seen.x && key < seen.y);
}

fn value_at(base: u32, seen: vec2<u32>, at: u32) -> KvVec {
    let key = at / HEAD_VECS;
    return select(KvVec(), v_cache[base + at], key >= seen.x && key < seen.y);
}

fn fetch_k(base: u32, seen: vec2<u32>, index: u32) -> Fetched {
    var fetched: Fetched;
    fetched.v0 = key_at(base, seen, index);
    fetched.v1 = key_at(base, seen, index + WORKGROUP);
    if FETCHED > 2u {
        fetched.v2 = key_at(base, seen, index + 2u * WORKGROUP);
        fetched.v3 = key_at(base, seen, index + 3u * WORKGROUP);
    }
    if FETCHED > 4u {
        fetched.v4 = key_at(base, seen, index + 4u * WORKGROUP);
        fetched.v5 = key_at(base, seen, index + 5u * WORKGROUP);
        fetched.v6 = key_at(base, seen, index + 6u * WORKGROUP);
        fetched.v7 = key_at(base, seen, index + 7u * WORKGROUP);
    }
    return fetched;
}

fn fetch_v(base: u32, seen: vec2<u32>, index: u32) -> Fetched {
    var fetched: Fetched;
    fetched.v0 = value_at(base, seen, index);
    fetched.v1 = value_at(base, seen, index + WORKGROUP);
    if FETCHED > 2u {
        fetched.v2 = value_at(base, seen, index + 2u * WORKGROUP);
        fetched.v3 = value_at(base, seen, index + 3u * WORKGROUP);
    }
    if FETCHED > 4u {
        fetched.v4 = value_at(base, seen, index + 4u * WORKGROUP);
        fetched.v5 = value_at(base, seen, index + 5u * WORKGROUP);
        fetched.v6 = value_at(base, seen, index + 6u * WORKGROUP);
        fetched.v7 = value_at(base, seen, index + 7u * WORKGROUP);
    }
    return fetched;
}

fn put_at(at: u32, v: KvVec) {
    sh_kv[(at / HEAD_VECS) * KV_STRIDE + at % HEAD_VECS] = v;
}

fn put(fetched: Fetched, index: u32) {
    put_at(index, fetched.v0);
    put_at(index + WORKGROUP, fetched.v1);
    if FETCHED > 2u {
        put_at(index + 2u * WORKGROUP, fetched.v2);
        put_at(index + 3u * WORKGROUP, fetched.v3);
    }
    if FETCHED > 4u {
        put_at(index + 4u * WORKGROUP, fetched.v4);
        put_at(index + 5u * WORKGROUP, fetched.v5);
        put_at(index + 6u * WORKGROUP, fetched.v6);
        put_at(index + 7u * WORKGROUP, fetched.v7);
    }
}

// Which keys of the tile at key0 any row sees.
fn seen_in(key0: u32, first_key: u32, last_key: u32) -> vec2<u32> {
    return vec2<u32>(max(first_key, key0) - key0, min(KEYS, last_key + 1u - key0));
}

// The largest of those that share a row.
fn sharers_max(mine: f32) -> f32 {
    var all = max(mine, subgroupShuffleXor(mine, 1u));
    all = max(all, subgroupShuffleXor(all, 2u));
    if SHARERS == 8u {
        all = max(all, subgroupShuffleXor(all, 4u));
    }
    return all;
}

fn sharers_sum(mine: f32) -> f32 {
    var all = mine + subgroupShuffleXor(mine, 1u);
    all += subgroupShuffleXor(all, 2u);
    if SHARERS == 8u {
        all += subgroupShuffleXor(all, 4u);
    }
    return all;
}

fn widest_of(v: vec4<f32>) -> f32 {
    return max(max(v.x, v.y), max(v.z, v.w));
}

// Scores of keys from `key` on, without those outside `sight`: first and last position that the row sees.
fn masked(scores: vec4<f32>, key: u32, sight: vec2<u32>) -> vec4<f32> {
    let keys = key + vec4<u32>(0u, 1u, 2u, 3u);
    return select(vec4<f32>(LOWEST), scores, (keys >= vec4<u32>(sight.x)) & (keys <= vec4<u32>(sight.y)));
}

// Writes 2^(scores - m) and returns their sum, as rounded, so that the weights sum to one.
fn put_exponentials(scores: vec4<f32>, m: f32, at: u32) -> f32 {
    let p = vec4<f16>(exp2(scores - m));
    sh_p[at] = p;
    return dot(vec4<f32>(p), vec4<f32>(1.0));
}

// Multiplies the rows of two of every subgroup's matrices of outputs, on their way through sh_s, by sh_alpha.
fn scale_outputs(index: u32) {
    for (var i = index; i < ROWS * 4u * STEP; i += WORKGROUP) {
        let r = i / (4u * STEP);
        sh_s[r * S_STRIDE + i % (4u * STEP)] *= sh_alpha[r];
    }
}

// Divides two of every subgroup's matrices of outputs, one below the other, number j from the left, by the sums and writes them.
fn hand_out(outputs: MatC, outputs_below: MatC, j: u32, tile: Tile, kv_head: u32, through: u32, index: u32) {
    workgroupBarrier(); // sums are in place; what went through before is gone
    coopStoreT(outputs, &sh_s[through], S_STRIDE);
    coopStoreT(outputs_below, &sh_s[through + BELOW], S_STRIDE);
    workgroupBarrier(); // the outputs are out
    for (var i = index; i < ROWS * 4u * STEP; i += WORKGROUP) {
        let r = i / (4u * STEP);
        let column = i % (4u * STEP);
        if r < tile.n_rows * GROUP {
            let d = (column / STEP * N_OUT + j) * STEP + column % STEP;
            out[row_start(tile, kv_head, r) + d] = sh_s[r * S_STRIDE + column] / sh_alpha[r];
        }
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    let index = subgroup * SUBGROUP + lane; // so that neighbours are lanes of one subgroup
    let tile = tiles[n_groups.x - 1u - group.x]; // the last ones see the most keys: they go first
    let kv_head = group.y;
    let slot = rows[tile.first_row].slot;
    let first_pos = rows[tile.first_row].pos;
    let last_key = rows[tile.first_row + tile.n_rows - 1u].pos;
    let my_rows = (subgroup % 4u) * TILE;
    let my_half = subgroup / 4u;
    let out_rows = (subgroup % 2u) * 2u * TILE;
    let my_quarter = subgroup / 2u;
    // the row of scores that this invocation has a share of: eight to a subgroup, the second and third exchanged, since rows that lie two
    // apart share no banks
    let in_eight = lane / SHARERS;
    let my_row = subgroup * 8u + (in_eight & 4u) + (in_eight & 1u) * 2u + (in_eight >> 1u) % 2u;
    let my_share = lane % SHARERS;
    let my_pos = rows[tile.first_row + min(my_row / GROUP, tile.n_rows - 1u)].pos;
    let my_sight = vec2<u32>(first_seen(my_pos), my_pos);

    // each row times a power of two that brings its largest magnitude into [2^14, 2^15), as in to_f16.wgsl; scores are divided by it
    let my_q0 = row_start(tile, kv_head, my_row) + my_share;
    var widest = vec4<f32>(0.0);
    for (var i = 0u; i < Q_SHARE; i++) {
        widest = max(widest, abs(q[my_q0 + i * SHARERS]));
    }
    let exponent = clamp(bitcast<u32>(sharers_max(widest_of(widest))) >> 23u, 15u, 254u);
    let q_scale = bitcast<f32>((268u - exponent) << 23u);
    for (var i = 0u; i < Q_SHARE; i++) {
        sh_kv[my_row * KV_STRIDE + my_share + i * SHARERS] = vec4<f16>(q[my_q0 + i * SHARERS] * q_scale);
    }
    let score_scale = params.scale * LOG2_E * bitcast<f32>((exponent - 14u) << 23u); // exponentials are powers of two

    let first_key = first_seen(first_pos);
    let tile_begin = first_key / KEYS;
    let tile_end = last_key / KEYS + 1u;
    let table = slot * params.blocks_per_slot;
    var base = kv_index(block_table[table + tile_begin], kv_head, params.n_kv_heads, 0u);
    workgroupBarrier(); // the queries are in place
    // matrices have names instead of indices: arrays of them end up in memory. The second half is for head_dim 128.
    let my_q = my_rows * KV_STRIDE;
    let q0 = coopLoadT<MatA>(&sh_kv[my_q], KV_STRIDE);
    let q1 = coopLoadT<MatA>(&sh_kv[my_q + STEP], KV_STRIDE);
    let q2 = coopLoadT<MatA>(&sh_kv[my_q + 2u * STEP], KV_STRIDE);
    let q3 = coopLoadT<MatA>(&sh_kv[my_q + 3u * STEP], KV_STRIDE);
    let q4 = coopLoadT<MatA>(&sh_kv[my_q + WIDE * 4u * STEP], KV_STRIDE);
    let q5 = coopLoadT<MatA>(&sh_kv[my_q + WIDE * 5u * STEP], KV_STRIDE);
    let q6 = coopLoadT<MatA>(&sh_kv[my_q + WIDE * 6u * STEP], KV_STRIDE);
    let q7 = coopLoadT<MatA>(&sh_kv[my_q + WIDE * 7u * STEP], KV_STRIDE);
    // o1 lies below o0, o2 beside it
    var o0 = MatC();
    var o1 = MatC();
    var o2 = MatC();
    var o3 = MatC();
    let through = my_rows * S_STRIDE + my_half * 2u * STEP; // this subgroup's place in sh_s
    let through_next = through + STEP;
    let through_out = out_rows * S_STRIDE + my_quarter * STEP; // and its outputs'
    var m = UNSEEN; // in powers of two, as all scores
    var l = 0.0; // over this invocation's share of the keys

    for (var key_tile = tile_begin; key_tile < tile_end; key_tile++) {
        let key0 = key_tile * KEYS;
        let block_ahead = block_table[table + min(key_tile + 1u, tile_end - 1u)]; // asked for early: the next keys wait for it
        let keys = fetch_k(base, seen_in(key0, first_key, last_key), index);
        workgroupBarrier(); // queries, or the values of the tile before, have been used
        put(keys, index);
        if index == 0u {
            atomicStore(&sh_raised[0], 0u);
        }
        workgroupBarrier(); // the keys are in place
        let values = fetch_v(base, seen_in(key0, first_key, last_key), index);
        base = kv_index(block_ahead, kv_head, params.n_kv_heads, 0u);
        let my_k = my_half * 2u * TILE * KV_STRIDE;
        var s0 = MatC();
        var s1 = MatC();
        s0 = coopMultiplyAdd(q0, coopLoad<MatB>(&sh_kv[my_k], KV_STRIDE), s0);
        s1 = coopMultiplyAdd(q0, coopLoad<MatB>(&sh_kv[my_k + NEXT], KV_STRIDE), s1);
        s0 = coopMultiplyAdd(q1, coopLoad<MatB>(&sh_kv[my_k + STEP], KV_STRIDE), s0);
        s1 = coopMultiplyAdd(q1, coopLoad<MatB>(&sh_kv[my_k + NEXT + STEP], KV_STRIDE), s1);
        s0 = coopMultiplyAdd(q2, coopLoad<MatB>(&sh_kv[my_k + 2u * STEP], KV_STRIDE), s0);
        s1 = coopMultiplyAdd(q2, coopLoad<MatB>(&sh_kv[my_k + NEXT + 2u * STEP], KV_STRIDE), s1);
        s0 = coopMultiplyAdd(q3, coopLoad<MatB>(&sh_kv[my_k + 3u * STEP], KV_STRIDE), s0);
        s1 = coopMultiplyAdd(q3, coopLoad<MatB>(&sh_kv[my_k + NEXT + 3u * STEP], KV_STRIDE), s1);
        if WIDE == 1u {
            s0 = coopMultiplyAdd(q4, coopLoad<MatB>(&sh_kv[my_k + 4u * STEP], KV_STRIDE), s0);
            s1 = coopMultiplyAdd(q4, coopLoad<MatB>(&sh_kv[my_k + NEXT + 4u * STEP], KV_STRIDE), s1);
            s0 = coopMultiplyAdd(q5, coopLoad<MatB>(&sh_kv[my_k + 5u * STEP], KV_STRIDE), s0);
            s1 = coopMultiplyAdd(q5, coopLoad<MatB>(&sh_kv[my_k + NEXT + 5u * STEP], KV_STRIDE), s1);
            s0 = coopMultiplyAdd(q6, coopLoad<MatB>(&sh_kv[my_k + 6u * STEP], KV_STRIDE), s0);
            s1 = coopMultiplyAdd(q6, coopLoad<MatB>(&sh_kv[my_k + NEXT + 6u * STEP], KV_STRIDE), s1);
            s0 = coopMultiplyAdd(q7, coopLoad<MatB>(&sh_kv[my_k + 7u * STEP], KV_STRIDE), s0);
            s1 = coopMultiplyAdd(q7, coopLoad<MatB>(&sh_kv[my_k + NEXT + 7u * STEP], KV_STRIDE), s1);
        }
        let scores0 = s0;
        coopStoreT(scores0, &sh_s[through], S_STRIDE);
        let scores1 = s1;
        coopStoreT(scores1, &sh_s[through_next], S_STRIDE);
        workgroupBarrier(); // the scores are in place, the keys have been used
        put(values, index);

        let my_s = my_row * S_STRIDE + my_share;
        var t0 = sh_s[my_s] * score_scale;
        var t1 = sh_s[my_s + SHARERS] * score_scale;
        var t2 = vec4<f32>(LOWEST);
        var t3 = vec4<f32>(LOWEST);
        if SHARE == 4u {
            t2 = sh_s[my_s + 2u * SHARERS] * score_scale;
            t3 = sh_s[my_s + 3u * SHARERS] * score_scale;
        }
        if key0 + KEYS > first_pos + 1u || key0 < first_seen(last_key) {
            let key = key0 + 4u * my_share;
            t0 = masked(t0, key, my_sight);
            t1 = masked(t1, key + 4u * SHARERS, my_sight);
            if SHARE == 4u {
                t2 = masked(t2, key + 8u * SHARERS, my_sight);
                t3 = masked(t3, key + 12u * SHARERS, my_sight);
            }
        }
        let largest = sharers_max(widest_of(max(max(t0, t1), max(t2, t3))));
        var alpha = 1.0;
        if largest > m + SLACK {
            alpha = exp2(m - largest);
            l *= alpha;
            m = largest;
            if key_tile > tile_begin { // before that there is no output
                atomicStore(&sh_raised[0], 1u);
            }
        }
        if my_share == 0u {
            sh_alpha[my_row] = alpha;
        }
        let my_p = my_row * P_STRIDE + my_share;
        l += put_exponentials(t0, m, my_p);
        l += put_exponentials(t1, m, my_p + SHARERS);
        if SHARE == 4u {
            l += put_exponentials(t2, m, my_p + 2u * SHARERS);
            l += put_exponentials(t3, m, my_p + 3u * SHARERS);
        }
        if workgroupUniformLoad(&sh_raised[0]) != 0u { // a barrier as well: values, exponentials and factors are in place
            let before0 = o0;
            coopStoreT(before0, &sh_s[through_out], S_STRIDE);
            let before1 = o1;
            coopStoreT(before1, &sh_s[through_out + BELOW], S_STRIDE);
            workgroupBarrier(); // the outputs are out
            scale_outputs(index);
            workgroupBarrier(); // they are scaled
            o0 = coopLoadT<MatC>(&sh_s[through_out], S_STRIDE);
            o1 = coopLoadT<MatC>(&sh_s[through_out + BELOW], S_STRIDE);
            if WIDE == 1u {
                workgroupBarrier(); // and back
                let before2 = o2;
                coopStoreT(before2, &sh_s[through_out], S_STRIDE);
                let before3 = o3;
                coopStoreT(before3, &sh_s[through_out + BELOW], S_STRIDE);
                workgroupBarrier(); // the others are out
                scale_outputs(index);
                workgroupBarrier(); // they are scaled
                o2 = coopLoadT<MatC>(&sh_s[through_out], S_STRIDE);
                o3 = coopLoadT<MatC>(&sh_s[through_out + BELOW], S_STRIDE);
            }
        }
        for (var k = 0u; k < KEYS; k += TILE) {
            let p0 = coopLoadT<MatA>(&sh_p[out_rows * P_STRIDE + k / 4u], P_STRIDE);
            let p1 = coopLoadT<MatA>(&sh_p[(out_rows + TILE) * P_STRIDE + k / 4u], P_STRIDE);
            let v = k * KV_STRIDE + my_quarter * N_OUT * STEP;
            let v0 = coopLoadT<MatB>(&sh_kv[v], KV_STRIDE);
            o0 = coopMultiplyAdd(p0, v0, o0);
            o1 = coopMultiplyAdd(p1, v0, o1);
            if WIDE == 1u {
                let v1 = coopLoadT<MatB>(&sh_kv[v + STEP], KV_STRIDE);
                o2 = coopMultiplyAdd(p0, v1, o2);
                o3 = coopMultiplyAdd(p1, v1, o3);
            }
        }
    }

    let sum = sharers_sum(l);
    if my_share == 0u {
        sh_alpha[my_row] = sum;
    }
    let last0 = o0;
    let last1 = o1;
    hand_out(last0, last1, 0u, tile, kv_head, through_out, index);
    if WIDE == 1u {
        let last2 = o2;
        let last3 = o3;
        hand_out(last2, last3, 1u, tile, kv_head, through_out, index);
    }
}
