// GQA flash attention for many query rows on the matrix units. Twin of attention_prefill.wgsl.
//
// The GROUP query heads that share a kv head are folded into the rows of one tile: tile row r is token r / GROUP, head r % GROUP of
// the group. One workgroup owns (tile of TOKENS tokens, kv head) and walks over the keys in tiles of KEYS. Its 8 subgroups share the
// tile out as 4 blocks of 16 rows by 2 halves: of the keys for the scores, of the dimensions for the output. Queries, keys, exponentials
// and values are f16; scores, maxima, sums and outputs f32.
//
// Online softmax (Milakov and Gimelshein 2018; Dao et al. 2022), with one change: the elements of a cooperative matrix cannot be
// scaled row by row where they are, so a row's maximum is only raised when a score exceeds it by SLACK, and exponentials may reach
// e^SLACK meanwhile. Raising it takes the outputs through workgroup memory, which after the first keys is rare.
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
@group(0) @binding(6) var<storage, read_write> out: array<f32>;       // [n_tokens, n_kv_heads * GROUP, head_dim]

const WORKGROUP: u32 = 8u * SUBGROUP;
const ROWS: u32 = 64u;
const TOKENS: u32 = ROWS / GROUP;
const KEYS: u32 = KV_BLOCK;
const WIDE: u32 = HEAD_DIM / 128u;               // 1 for head_dim 128, 0 for 64
const N_OUT: u32 = HEAD_DIM / (2u * TILE);       // matrices of outputs of a subgroup
const STEP: u32 = TILE / 4u;                     // from one matrix to the next along a query, key or value, in vec4s
const NEXT: u32 = TILE * KV_STRIDE;              // the same from key to key
const KV_STRIDE: u32 = HEAD_VECS + 2u;           // padded by 8 halves: neighbouring keys lie in different banks
const S_STRIDE: u32 = KEYS + 4u;
const P_STRIDE: u32 = KEYS + 8u;
const SHARERS: u32 = WORKGROUP / ROWS;           // invocations that share a row of scores
const SHARE: u32 = KEYS / SHARERS;
const Q_SHARE: u32 = HEAD_VECS / SHARERS;
const FETCHED: u32 = KEYS * HEAD_VECS / WORKGROUP;
const LOWEST: f32 = -3.0e38;
const SLACK: f32 = 8.0;                          // e^8 times 64 keys is far from f16's end

// Cooperative matrices are loaded from multiples of 16 bytes, and drivers put these one after the other: each is a multiple of 16 long.
var<workgroup> sh_kv: array<vec4<f16>, KEYS * KV_STRIDE>; // queries first, then keys and values in turn
var<workgroup> sh_s: array<f32, ROWS * S_STRIDE>;         // scores; outputs on their way through
var<workgroup> sh_p: array<f16, ROWS * P_STRIDE>;         // exponentials
var<workgroup> sh_part: array<f32, WORKGROUP>;
var<workgroup> sh_alpha: array<f32, ROWS>;                // what the old sums are worth under the new maximum
var<workgroup> sh_raised: array<atomic<u32>, 4>;          // [0]: whether outputs have to be scaled in this tile of keys

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

// Keys from seen.x up to seen.y; zeros for those that no row sees, which may never have been written: an exponential of zero times
// a NaN would not vanish.
fn fetch_k(base: u32, seen: vec2<u32>, index: u32) -> array<KvVec, FETCHED> {
    var fetched: array<KvVec, FETCHED>;
    for (var i = 0u; i < FETCHED; i++) {
        let at = index + i * WORKGROUP;
        let key = at / HEAD_VECS;
        fetched[i] = select(KvVec(), k_cache[base + at], key >= seen.x && key < seen.y);
    }
    return fetched;
}

fn fetch_v(base: u32, seen: vec2<u32>, index: u32) -> array<KvVec, FETCHED> {
    var fetched: array<KvVec, FETCHED>;
    for (var i = 0u; i < FETCHED; i++) {
        let at = index + i * WORKGROUP;
        let key = at / HEAD_VECS;
        fetched[i] = select(KvVec(), v_cache[base + at], key >= seen.x && key < seen.y);
    }
    return fetched;
}

fn put(fetched: array<KvVec, FETCHED>, index: u32) {
    for (var i = 0u; i < FETCHED; i++) {
        let at = index + i * WORKGROUP;
        sh_kv[(at / HEAD_VECS) * KV_STRIDE + at % HEAD_VECS] = fetched[i];
    }
}

// Takes one of every subgroup's matrices of outputs through workgroup memory, where rows are multiplied by sh_alpha.
fn scaled(before: MatC, through: u32, index: u32) -> MatC {
    coopStoreT(before, &sh_s[through], S_STRIDE);
    workgroupBarrier(); // the outputs are out
    for (var i = index; i < ROWS * 2u * TILE; i += WORKGROUP) {
        let r = i / (2u * TILE);
        sh_s[r * S_STRIDE + i % TILE + (i / TILE % 2u) * 2u * TILE] *= sh_alpha[r];
    }
    workgroupBarrier(); // they are scaled
    let after = coopLoadT<MatC>(&sh_s[through], S_STRIDE);
    workgroupBarrier(); // and back
    return after;
}

// Divides one of every subgroup's matrices of outputs, number j, by the sums and writes it.
fn hand_out(outputs: MatC, j: u32, tile: Tile, kv_head: u32, through: u32, index: u32) {
    workgroupBarrier(); // sums are in place; what went through before is gone
    coopStoreT(outputs, &sh_s[through], S_STRIDE);
    workgroupBarrier(); // the outputs are out
    for (var i = index; i < ROWS * 2u * TILE; i += WORKGROUP) {
        let r = i / (2u * TILE);
        let half = i / TILE % 2u;
        if r < tile.n_rows * GROUP {
            var sum = 0.0;
            for (var share = 0u; share < SHARERS; share++) {
                sum += sh_part[r * SHARERS + share];
            }
            let d = (half * N_OUT + j) * TILE + i % TILE;
            out[row_start(tile, kv_head, r) * 4u + d] = sh_s[r * S_STRIDE + i % TILE + half * 2u * TILE] / sum;
        }
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    let tile = tiles[n_groups.x - 1u - group.x]; // the last ones see the most keys: they go first
    let kv_head = group.y;
    let slot = rows[tile.first_row].slot;
    let last_key = rows[tile.first_row + tile.n_rows - 1u].pos;
    let my_rows = (subgroup % 4u) * TILE;
    let my_half = subgroup / 4u;
    let my_row = index / SHARERS; // the row of scores that this invocation has a share of
    let my_pos = rows[tile.first_row + min(my_row / GROUP, tile.n_rows - 1u)].pos;
    let my_first = first_seen(my_pos);
    let my_share = (index % SHARERS) * SHARE;

    // each row times a power of two that brings its largest magnitude into [2^14, 2^15), as in to_f16.wgsl; scores are divided by it
    let my_q0 = row_start(tile, kv_head, my_row) + (index % SHARERS) * Q_SHARE;
    var widest = vec4<f32>(0.0);
    for (var i = 0u; i < Q_SHARE; i++) {
        widest = max(widest, abs(q[my_q0 + i]));
    }
    sh_part[index] = max(max(widest.x, widest.y), max(widest.z, widest.w));
    workgroupBarrier(); // the largest of each share is in place
    var largest_q = 0.0;
    for (var i = 0u; i < SHARERS; i++) {
        largest_q = max(largest_q, sh_part[my_row * SHARERS + i]);
    }
    let exponent = clamp(bitcast<u32>(largest_q) >> 23u, 15u, 254u);
    let q_scale = bitcast<f32>((268u - exponent) << 23u);
    for (var i = 0u; i < Q_SHARE; i++) {
        sh_kv[my_row * KV_STRIDE + (index % SHARERS) * Q_SHARE + i] = vec4<f16>(q[my_q0 + i] * q_scale);
    }
    let score_scale = params.scale * bitcast<f32>((exponent - 14u) << 23u);
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
    var o0 = MatC();
    var o1 = MatC();
    var o2 = MatC();
    var o3 = MatC();
    let through = my_rows * S_STRIDE + my_half * 2u * TILE; // this subgroup's place in sh_s
    let through_next = through + TILE;
    var m = LOWEST;
    var l = 0.0; // over this invocation's share of the keys

    let first_key = first_seen(rows[tile.first_row].pos);
    let tile_begin = first_key / KEYS;
    let tile_end = last_key / KEYS + 1u;
    for (var key_tile = tile_begin; key_tile < tile_end; key_tile++) {
        let key0 = key_tile * KEYS;
        let block = block_table[slot * params.blocks_per_slot + key_tile];
        let base = kv_index(block, kv_head, params.n_kv_heads, 0u);
        let seen = vec2<u32>(max(first_key, key0) - key0, min(KEYS, last_key + 1u - key0));
        let keys = fetch_k(base, seen, index);
        workgroupBarrier(); // queries, or the values of the tile before, have been used
        put(keys, index);
        if index == 0u {
            atomicStore(&sh_raised[0], 0u);
        }
        workgroupBarrier(); // the keys are in place
        let values = fetch_v(base, seen, index);
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

        var s: array<f32, SHARE>;
        var largest = LOWEST;
        for (var i = 0u; i < SHARE; i++) {
            let key = key0 + my_share + i;
            s[i] = select(LOWEST, sh_s[my_row * S_STRIDE + my_share + i] * score_scale, key <= my_pos && key >= my_first);
            largest = max(largest, s[i]);
        }
        sh_part[index] = largest;
        workgroupBarrier(); // maxima of all shares and the values are in place
        for (var i = 0u; i < SHARERS; i++) {
            largest = max(largest, sh_part[my_row * SHARERS + i]);
        }
        if largest > m + SLACK {
            let alpha = exp(m - largest);
            l *= alpha;
            m = largest;
            sh_alpha[my_row] = alpha;
            if key_tile > tile_begin { // before that there is no output
                atomicStore(&sh_raised[0], 1u);
            }
        } else {
            sh_alpha[my_row] = 1.0;
        }
        for (var i = 0u; i < SHARE; i++) {
            let p = f16(select(0.0, exp(s[i] - m), s[i] > LOWEST)); // a row may see no key of this tile
            l += f32(p); // as rounded, so that the weights sum to one
            sh_p[my_row * P_STRIDE + my_share + i] = p;
        }
        workgroupBarrier(); // exponentials and factors are in place
        if workgroupUniformLoad(&sh_raised[0]) != 0u {
            let before0 = o0;
            o0 = scaled(before0, through, index);
            let before1 = o1;
            o1 = scaled(before1, through, index);
            if WIDE == 1u {
                let before2 = o2;
                o2 = scaled(before2, through, index);
                let before3 = o3;
                o3 = scaled(before3, through, index);
            }
        }
        for (var k = 0u; k < KEYS; k += TILE) {
            let a = coopLoadT<MatA>(&sh_p[my_rows * P_STRIDE + k], P_STRIDE);
            let v = k * KV_STRIDE + my_half * N_OUT * STEP;
            o0 = coopMultiplyAdd(a, coopLoadT<MatB>(&sh_kv[v], KV_STRIDE), o0);
            o1 = coopMultiplyAdd(a, coopLoadT<MatB>(&sh_kv[v + STEP], KV_STRIDE), o1);
            if WIDE == 1u {
                o2 = coopMultiplyAdd(a, coopLoadT<MatB>(&sh_kv[v + 2u * STEP], KV_STRIDE), o2);
                o3 = coopMultiplyAdd(a, coopLoadT<MatB>(&sh_kv[v + 3u * STEP], KV_STRIDE), o3);
            }
        }
    }

    sh_part[index] = l;
    let last0 = o0;
    hand_out(last0, 0u, tile, kv_head, through, index);
    let last1 = o1;
    hand_out(last1, 1u, tile, kv_head, through, index);
    if WIDE == 1u {
        let last2 = o2;
        hand_out(last2, 2u, tile, kv_head, through, index);
        let last3 = o3;
        hand_out(last3, 3u, tile, kv_head, through, index);
    }
}
