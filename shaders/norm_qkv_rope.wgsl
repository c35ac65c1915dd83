// One token's queries, keys and values: RMS norm, product with the stacked matrix, and what shared/qkv_rope.wgsl has: bias, rotation of q
// and k, and the write of k and v into the cache. Twin of qkv_rope_dot.wgsl, but for the norm.
//
// Header: WORKGROUP, N_ROWS (even), HEAD_DIM, KV_BLOCK.

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

// binding 0: weights, [n_heads + 2 n_kv_heads, head_dim, columns]; 1: x; 2: vectors, the bias behind the norm's weights; 3: place; 4: q;
// 5 and 6: the cache

fn n_columns() -> u32 {
    return 8u * params.groups;
}

@compute @workgroup_size(WORKGROUP)
fn main(inv: Invocation) {
    let unit = inv.group.y * params.grid_x + inv.group.x;
    if unit >= params.n_units {
        return; // the whole workgroup leaves
    }
    var end = ending(unit, inv.index);
    put_products(unit, params.groups, inv);
    workgroupBarrier(); // every share of every sum is in place
    for (var r = inv.index; r < N_ROWS; r += WORKGROUP) {
        put_row(unit, r, two_products(r, partner_of(r), params.inv_d, params.eps, inv), end);
        end = ending(unit, r + WORKGROUP);
    }
}
