// What one token's queries, keys and values have in common, however their products are made: which rows meet in a workgroup, the bias,
// the rotation of q and k, and the write of k and v into the cache. qkv = products + bias, and pair (i, i + head_dim / 2) of each query
// and key head turns by the token's angle.
//
// Both rows of a pair must meet, so a workgroup owns N_ROWS / 2 neighbouring rows of a head's first half and the same of its second.
// The kernel binds `vectors` at 2, has n_heads and n_kv_heads in its params, and defines n_columns(). Header: N_ROWS, HEAD_DIM, KV_BLOCK.

@group(0) @binding(3) var<storage, read> place: Place;
@group(0) @binding(4) var<storage, read_write> q: array<f32>;           // [n_heads, head_dim]
@group(0) @binding(5) var<storage, read_write> k_cache: array<KvScalar>; // [n_blocks, n_kv_heads, KV_BLOCK, head_dim]
@group(0) @binding(6) var<storage, read_write> v_cache: array<KvScalar>; // the same

const HALF: u32 = HEAD_DIM / 2u;
const N_PAIRS: u32 = N_ROWS / 2u;

fn matrix_row(unit: u32, r: u32) -> u32 {
    let pair = unit * N_PAIRS + r % N_PAIRS;
    return pair / HALF * HEAD_DIM + pair % HALF + r / N_PAIRS * HALF;
}

// Which row of the workgroup makes a pair with row r.
fn partner_of(r: u32) -> u32 {
    return (r + N_PAIRS) % N_ROWS;
}

fn bias(row: u32) -> f32 {
    let b = n_columns() + row;
    return vectors[b / 4u][b % 4u];
}

// What the end of a row needs beside products.
struct Ending {
    biases: vec2<f32>, // the row's and its partner's
    turn: vec2<f32>,
}

// Loads it, before the products are summed, so that it is on its way meanwhile.
fn ending(unit: u32, r: u32) -> Ending {
    if r >= N_ROWS {
        return Ending();
    }
    let row = matrix_row(unit, r);
    return Ending(vec2<f32>(bias(row), bias(matrix_row(unit, partner_of(r)))), place.turns[row % HALF]);
}

// Writes row r of the workgroup, given its product and its partner's.
fn put_row(unit: u32, r: u32, products: vec2<f32>, end: Ending) {
    let row = matrix_row(unit, r);
    let head = row / HEAD_DIM;
    let d = row % HEAD_DIM;
    let y = products + end.biases;
    if head >= params.n_heads + params.n_kv_heads {
        let v_head = head - params.n_heads - params.n_kv_heads;
        v_cache[4u * kv_index(place.block, v_head, params.n_kv_heads, place.in_block) + d] = to_kv_scalar(y.x);
        return;
    }
    let turned = y.x * end.turn.x + select(y.y, -y.y, d < HALF) * end.turn.y;
    if head < params.n_heads {
        q[row] = turned;
    } else {
        let k_head = head - params.n_heads;
        k_cache[4u * kv_index(place.block, k_head, params.n_kv_heads, place.in_block) + d] = to_kv_scalar(turned);
    }
}
