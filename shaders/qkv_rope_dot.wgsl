// One token's queries, keys and values with quantised weights and a normalised x in bytes: products with integer dot products within a
// block of 32, and what shared/qkv_rope.wgsl has: bias, rotation of q and k, and the write of k and v into the cache. Twin of
// norm_qkv_rope.wgsl, but for the norm.
//
// Header: WORKGROUP, N_ROWS (2 or 4), N_SUMS = N_ROWS, HEAD_DIM, KV_BLOCK.

struct Params {
    blocks: u32,     // columns / 32
    scales_at: u32,  // as shared/bytes_joined.wgsl has it
    n_units: u32,    // workgroups with work
    n_heads: u32,
    n_kv_heads: u32,
    grid_x: u32,     // workgroups in x; y continues where x ends
}
var<immediate> params: Params;

// binding 0: weights, [n_heads + 2 n_kv_heads, head_dim, blocks]; 1: bytes and their scales; 3: place; 4: q; 5 and 6: the cache
@group(0) @binding(2) var<storage, read> vectors: array<vec4<f32>>; // the norm's weights, [columns], which are of no use here, and the bias

fn n_columns() -> u32 {
    return 32u * params.blocks;
}

@compute @workgroup_size(WORKGROUP)
fn main(inv: Invocation) {
    let unit = inv.group.y * params.grid_x + inv.group.x;
    if unit >= params.n_units {
        return; // the whole workgroup leaves
    }
    let r = inv.index;
    let end = ending(unit, r);
    put_dot_products(unit, params.blocks, inv);
    workgroupBarrier(); // every share of every sum is in place
    if r < N_ROWS {
        put_row(unit, r, vec2<f32>(sum_partials(r, inv), sum_partials(partner_of(r), inv)), end);
    }
}
