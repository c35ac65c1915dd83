// One token's queries, keys and values with quantised weights: RMS norm to bytes, products with integer dot products within a block of
// 32, and what shared/qkv_rope.wgsl has: bias, rotation of q and k, and the write of k and v into the cache. What norm_quantize.wgsl and
// qkv_rope_dot.wgsl do, in one dispatch.
//
// Each team of LANES invocations owns the two rows of a pair, whose blocks it shares out. Header: WORKGROUP, N_ROWS = 2 TEAMS, HEAD_DIM,
// KV_BLOCK.

struct Params {
    blocks: u32,     // columns / 32
    n_units: u32,    // workgroups with work
    n_heads: u32,
    n_kv_heads: u32,
    eps: f32,
    inv_d: f32,      // 1 / columns
    grid_x: u32,     // workgroups in x; y continues where x ends
}
var<immediate> params: Params;

// binding 0: weights, [n_heads + 2 n_kv_heads, head_dim, blocks]; 1: x; 2: vectors, the bias behind the norm's weights; 3: place; 4: q;
// 5 and 6: the cache

const LANES: u32 = 32u;
const TEAMS: u32 = WORKGROUP / LANES;

fn n_columns() -> u32 {
    return 32u * params.blocks;
}

@compute @workgroup_size(WORKGROUP)
fn main(inv: Invocation) {
    let unit = inv.group.y * params.grid_x + inv.group.x;
    if unit >= params.n_units {
        return; // the whole workgroup leaves
    }
    let lane = lane_of(inv);
    let team = team_of(inv);
    // the first two lanes end the rows of the pair; the others have none
    let r = select(N_ROWS, team + lane * TEAMS, lane < 2u);
    let end = ending(unit, r);
    put_normed(params.blocks, params.eps, params.inv_d, inv);
    let first = matrix_row(unit, team) * params.blocks;
    let second = matrix_row(unit, team + TEAMS) * params.blocks;
    var sums = vec2<f32>(0.0);
    for (var b = lane; b < params.blocks; b += LANES) {
        let lo = sh_halves[2u * b];
        let hi = sh_halves[2u * b + 1u];
        let d = sh_x_scales[b];
        sums += vec2<f32>(block_dot(first + b, lo, hi, d), block_dot(second + b, lo, hi, d));
    }
    let products = team_sum(vec4<f32>(sums, 0.0, 0.0), inv).xy;
    if lane < 2u {
        put_row(unit, r, select(products.yx, products, lane == 0u), end);
    }
}
