// The first half of one token's feed-forward: out = silu(gate norm(x)) * (up norm(x)), silu(y) = y / (1 + e^-y).
//
// gate and up are stacked, so a workgroup owns N_ROWS / 2 neighbouring rows of gate and the same of up, d_ff rows further on.
// Header: WORKGROUP, N_ROWS (even).

struct Params {
    groups: u32, // columns / 8
    d_ff: u32,   // rows of gate, and of up
    eps: f32,
    inv_d: f32,  // 1 / columns
    grid_x: u32, // workgroups in x; y continues where x ends
}
var<immediate> params: Params;

// binding 0: weights, [2, d_ff, columns]; 1: x; 2: vectors, the norm's weights alone
@group(0) @binding(3) var<storage, read_write> out: array<f32>; // [d_ff]

const N_OUT: u32 = N_ROWS / 2u;

fn matrix_row(unit: u32, r: u32) -> u32 {
    // past gate's last row that one is read again; its sums are not written
    return min(unit * N_OUT + r % N_OUT, params.d_ff - 1u) + r / N_OUT * params.d_ff;
}

@compute @workgroup_size(WORKGROUP)
fn main(inv: Invocation) {
    let unit = inv.group.y * params.grid_x + inv.group.x;
    if unit * N_OUT >= params.d_ff {
        return; // the whole workgroup leaves: it lies beyond the last row
    }
    put_products(unit, params.groups, inv);
    workgroupBarrier(); // every share of every sum is in place
    for (var i = inv.index; i < N_OUT; i += WORKGROUP) {
        let o = unit * N_OUT + i;
        if o < params.d_ff {
            let y = two_products(i, N_OUT + i, params.inv_d, params.eps, inv);
            // e^80 is finite in f32 and makes silu vanish all the same
            out[o] = y.x / (1.0 + exp(min(-y.x, 80.0))) * y.y;
        }
    }
}
