// The first half of one token's feed-forward with quantised weights and a normalised x in bytes: out = silu(gate x) * (up x),
// silu(y) = y / (1 + e^-y), with integer dot products within a block of 32. Twin of norm_gate_up.wgsl, but for the norm.
//
// gate and up are stacked, so a workgroup owns N_ROWS / 2 neighbouring rows of gate and the same of up, d_ff rows further on.
// Header: WORKGROUP, N_ROWS (2 or 4), N_SUMS = N_ROWS.

struct Params {
    blocks: u32, // columns / 32
    d_ff: u32,   // rows of gate, and of up
    grid_x: u32, // workgroups in x; y continues where x ends
}
var<immediate> params: Params;

// binding 0: weights, [2, d_ff, blocks]; 1: bytes; 2: block_scales
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
    put_dot_products(unit, params.blocks, inv);
    workgroupBarrier(); // every share of every sum is in place
    let o = unit * N_OUT + inv.index;
    if inv.index < N_OUT && o < params.d_ff {
        let gate = sum_partials(inv.index, inv);
        let up = sum_partials(N_OUT + inv.index, inv);
        // e^80 is finite in f32 and makes silu vanish all the same
        out[o] = gate / (1.0 + exp(min(-gate, 80.0))) * up;
    }
}
