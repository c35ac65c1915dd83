// GQA flash attention for many query rows.
//
// The GROUP query heads that share a kv head are folded into the rows of one tile: tile row r is token r / GROUP, head r % GROUP of
// the group. One workgroup owns (tile of TOKENS tokens, kv head), and walks over the keys in tiles of KEYS with the online softmax
// (Milakov and Gimelshein 2018; Dao et al. 2022), all f32. Keys and values pass through workgroup memory in slices of SLICE
// dimensions, so that head_dim 128 fits into 32 KiB. An invocation owns 2 rows x 4 keys of the scores, and 2 rows x 1 vec4 of each
// slice of the output.
//
// Header: HEAD_DIM, KV_BLOCK, GROUP. KEYS divides KV_BLOCK and tiles start at multiples of KEYS, so a key tile lies in one block.

struct Params {
    n_kv_heads: u32,
    blocks_per_slot: u32,
    window: u32,   // last positions that are seen, the row's own included; 0: all
    scale: f32,    // 1 / sqrt(head_dim)
    head_vecs: u32, // HEAD_VECS again, as a bound that no compiler can unroll: CPU drivers took half a minute over it
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

const WORKGROUP: u32 = 128u;
const ROWS: u32 = 32u;
const TOKENS: u32 = ROWS / GROUP;
const KEYS: u32 = 32u;
const SLICE_VECS: u32 = 8u;                      // 32 dimensions
const N_SLICES: u32 = HEAD_VECS / SLICE_VECS;
const SLICE_STRIDE: u32 = SLICE_VECS + 1u;       // padded: neighbouring keys lie in different banks
const P_STRIDE: u32 = KEYS + 1u;
const LOWEST: f32 = -3.0e38;

var<workgroup> sh_q: array<vec4<f32>, ROWS * HEAD_VECS>;
var<workgroup> sh_kv: array<vec4<f32>, KEYS * SLICE_STRIDE>;
var<workgroup> sh_p: array<f32, ROWS * P_STRIDE>; // scores, then their exponentials
var<workgroup> sh_m: array<f32, ROWS>;
var<workgroup> sh_l: array<f32, ROWS>;
var<workgroup> sh_alpha: array<f32, ROWS>;        // what the old sums are worth under the new maximum

// The tile row's place in q and out, in vec4s.
fn row_start(tile: Tile, kv_head: u32, r: u32) -> u32 {
    let token = tile.first_row + min(r / GROUP, tile.n_rows - 1u);
    return (token * params.n_kv_heads * GROUP + kv_head * GROUP + r % GROUP) * HEAD_VECS;
}

// Maximum, exponentials and sum of the first n_keys scores of one row; the rest is not read again.
fn soften(r: u32, n_keys: u32) {
    let old = sh_m[r];
    var m = old;
    for (var key = 0u; key < n_keys; key++) {
        m = max(m, sh_p[r * P_STRIDE + key]);
    }
    var sum = 0.0;
    for (var key = 0u; key < n_keys; key++) {
        let s = sh_p[r * P_STRIDE + key];
        let p = select(0.0, exp(s - m), s > LOWEST); // a row may see no key of this tile
        sh_p[r * P_STRIDE + key] = p;
        sum += p;
    }
    let alpha = exp(old - m);
    sh_m[r] = m;
    sh_l[r] = sh_l[r] * alpha + sum;
    sh_alpha[r] = alpha;
}

// First position that a row at `pos` sees.
fn first_seen(pos: u32) -> u32 {
    if params.window != 0u && pos >= params.window {
        return pos + 1u - params.window;
    }
    return 0u;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let tile = tiles[group.x];
    let kv_head = group.y;
    let slot = rows[tile.first_row].slot;
    let last_key = rows[tile.first_row + tile.n_rows - 1u].pos;
    let my_row = (index / 8u) * 2u;
    let my_col = index % 8u;
    let pos0 = rows[tile.first_row + min(my_row / GROUP, tile.n_rows - 1u)].pos;
    let pos1 = rows[tile.first_row + min((my_row + 1u) / GROUP, tile.n_rows - 1u)].pos;

    for (var i = index; i < ROWS * HEAD_VECS; i += WORKGROUP) {
        sh_q[i] = q[row_start(tile, kv_head, i / HEAD_VECS) + i % HEAD_VECS];
    }
    if index < ROWS {
        sh_m[index] = LOWEST;
        sh_l[index] = 0.0;
    }
    var acc: array<vec4<f32>, 2u * N_SLICES>; // [slice][row]

    let key_begin = first_seen(rows[tile.first_row].pos) / KEYS * KEYS;
    for (var key0 = key_begin; key0 <= last_key; key0 += KEYS) {
        let block = block_table[slot * params.blocks_per_slot + key0 / KV_BLOCK];
        let base = kv_index(block, kv_head, params.n_kv_heads, key0 % KV_BLOCK);
        let n_keys = min(KEYS, last_key + 1u - key0);

        var s0 = vec4<f32>(0.0);
        var s1 = vec4<f32>(0.0);
        for (var slice = 0u; slice < params.head_vecs / SLICE_VECS; slice++) {
            workgroupBarrier(); // the slice before has been used up; q, m and l are in place
            for (var i = index; i < KEYS * SLICE_VECS; i += WORKGROUP) {
                let key = i / SLICE_VECS;
                var v = vec4<f32>(0.0); // entries beyond the last token were never written
                if key < n_keys {
                    v = from_kv(k_cache[base + key * HEAD_VECS + slice * SLICE_VECS + i % SLICE_VECS]);
                }
                sh_kv[key * SLICE_STRIDE + i % SLICE_VECS] = v;
            }
            workgroupBarrier(); // the slice of keys is in place
            for (var d = 0u; d < min(SLICE_VECS, params.head_vecs); d++) {
                let q0 = sh_q[my_row * HEAD_VECS + slice * SLICE_VECS + d];
                let q1 = sh_q[(my_row + 1u) * HEAD_VECS + slice * SLICE_VECS + d];
                let k0 = sh_kv[my_col * SLICE_STRIDE + d];
                let k1 = sh_kv[(my_col + 8u) * SLICE_STRIDE + d];
                let k2 = sh_kv[(my_col + 16u) * SLICE_STRIDE + d];
                let k3 = sh_kv[(my_col + 24u) * SLICE_STRIDE + d];
                s0 += vec4<f32>(dot(q0, k0), dot(q0, k1), dot(q0, k2), dot(q0, k3));
                s1 += vec4<f32>(dot(q1, k0), dot(q1, k1), dot(q1, k2), dot(q1, k3));
            }
        }
        for (var j = 0u; j < 4u; j++) {
            let col = my_col + 8u * j;
            let key = key0 + col;
            let seen0 = key <= pos0 && key >= first_seen(pos0);
            let seen1 = key <= pos1 && key >= first_seen(pos1);
            sh_p[my_row * P_STRIDE + col] = select(LOWEST, s0[j] * params.scale, seen0);
            sh_p[(my_row + 1u) * P_STRIDE + col] = select(LOWEST, s1[j] * params.scale, seen1);
        }
        workgroupBarrier(); // the scores are in place
        if index < ROWS {
            soften(index, n_keys);
        }
        for (var slice = 0u; slice < N_SLICES; slice++) {
            workgroupBarrier(); // exponentials are in place; the slice before has been used up
            for (var i = index; i < KEYS * SLICE_VECS; i += WORKGROUP) {
                let key = i / SLICE_VECS;
                var v = vec4<f32>(0.0);
                if key < n_keys {
                    v = from_kv(v_cache[base + key * HEAD_VECS + slice * SLICE_VECS + i % SLICE_VECS]);
                }
                sh_kv[key * SLICE_STRIDE + i % SLICE_VECS] = v;
            }
            workgroupBarrier(); // the slice of values is in place
            var a0 = acc[2u * slice] * sh_alpha[my_row];
            var a1 = acc[2u * slice + 1u] * sh_alpha[my_row + 1u];
            for (var key = 0u; key < n_keys; key++) {
                let v = sh_kv[key * SLICE_STRIDE + my_col];
                a0 += sh_p[my_row * P_STRIDE + key] * v;
                a1 += sh_p[(my_row + 1u) * P_STRIDE + key] * v;
            }
            acc[2u * slice] = a0;
            acc[2u * slice + 1u] = a1;
        }
    }
    for (var j = 0u; j < 2u; j++) {
        let r = my_row + j;
        if r < tile.n_rows * GROUP {
            let o = row_start(tile, kv_head, r);
            let inv_l = 1.0 / sh_l[r];
            for (var slice = 0u; slice < N_SLICES; slice++) {
                out[o + slice * SLICE_VECS + my_col] = acc[2u * slice + j] * inv_l;
            }
        }
    }
}
