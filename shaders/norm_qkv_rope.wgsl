// One token's queries, keys and values: RMS norm, product with the stacked matrix, bias, rotation of q and k, and the write of k and v
// into the cache. qkv = W norm(x) + bias, and pair (i, i + head_dim / 2) of each query and key head turns by the token's angle.
//
// Both rows of a pair must meet, so a workgroup owns N_ROWS / 2 neighbouring rows of a head's first half and the same of its second.
// Header: WORKGROUP, N_ROWS (2, 4 or 8), HEAD_DIM, KV_BLOCK.

struct Params {
    groups: u32,     // columns / 8
    n_units: u32,    // workgroups with work
    n_heads: u32,
    n_kv_heads: u32,
    eps: f32,
    inv_d: f32,      // 1 / columns
    grid_x: u32,     // workgroups in x; y continues where x ends
}
var<immediate> params: Params;

// binding 0: weights, [n_heads + 2 n_kv_heads, head_dim, columns]; 1: x; 2: vectors, the bias behind the norm's weights
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

fn bias(row: u32) -> f32 {
    let b = 8u * params.groups + row;
    return vectors[b / 4u][b % 4u];
}

@compute @workgroup_size(WORKGROUP)
fn main(inv: Invocation) {
    let unit = inv.group.y * params.grid_x + inv.group.x;
    if unit >= params.n_units {
        return; // the whole workgroup leaves
    }
    let r = inv.index;
    let partner = (r + N_PAIRS) % N_ROWS;
    let row = matrix_row(unit, r);
    let d = row % HEAD_DIM;
    var biases = vec2<f32>();
    var turn = vec2<f32>();
    if r < N_ROWS {
        // what the end needs is on its way while the products are summed
        biases = vec2<f32>(bias(row), bias(matrix_row(unit, partner)));
        turn = place.turns[d % HALF];
    }
    put_products(unit, params.groups, inv);
    workgroupBarrier(); // every share of every sum is in place
    if r >= N_ROWS {
        return;
    }
    let head = row / HEAD_DIM;
    let y = two_products(r, partner, params.inv_d, params.eps, inv) + biases;
    if head >= params.n_heads + params.n_kv_heads {
        let v_head = head - params.n_heads - params.n_kv_heads;
        v_cache[4u * kv_index(place.block, v_head, params.n_kv_heads, place.in_block) + d] = to_kv_scalar(y.x);
        return;
    }
    let turned = y.x * turn.x + select(y.y, -y.y, d < HALF) * turn.y;
    if head < params.n_heads {
        q[row] = turned;
    } else {
        let k_head = head - params.n_heads;
        k_cache[4u * kv_index(place.block, k_head, params.n_kv_heads, place.in_block) + d] = to_kv_scalar(turned);
    }
}
