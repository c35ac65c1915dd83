// The first half of one token's experts with quantised weights and a normalised x in bytes: out[slot] = silu(gate_e x) * (up_e x) of the
// expert e of each slot, with integer dot products within a block of 32. Twin of experts_gate_up.wgsl.
//
// The grid has the slots in z; in x and y a workgroup owns N_ROWS / 2 neighbouring rows of its expert's gate and the same of up, d_ff
// rows further on. Header: WORKGROUP, N_ROWS (2 or 4), N_SUMS = N_ROWS.

struct Params {
    blocks: u32,       // columns / 32
    d_ff: u32,         // rows of an expert's gate, and of its up
    k: u32,
    n_experts: u32,    // those that are chosen from
    first_expert: u32, // of this part of the stack
    n_here: u32,       // experts of this part
    grid_x: u32,       // workgroups in x; y continues where x ends
}
var<immediate> params: Params;

// binding 0: weights, [n_here, 2, d_ff, blocks]; 1: bytes; 2: block_scales
@group(0) @binding(3) var<storage, read> chosen: array<u32>;    // [k]
@group(0) @binding(4) var<storage, read_write> out: array<f32>; // [k + slices of the shared expert, d_ff]

const N_OUT: u32 = N_ROWS / 2u;

// The first row of the workgroup's expert.
var<private> expert_row: u32;

fn matrix_row(unit: u32, r: u32) -> u32 {
    // past gate's last row that one is read again; its sums are not written
    return expert_row + min(unit * N_OUT + r % N_OUT, params.d_ff - 1u) + r / N_OUT * params.d_ff;
}

@compute @workgroup_size(WORKGROUP)
fn main(inv: Invocation) {
    let unit = inv.group.y * params.grid_x + inv.group.x;
    let slot = inv.group.z;
    let expert = expert_here(slot);
    if unit * N_OUT >= params.d_ff || expert == ELSEWHERE {
        return; // the whole workgroup leaves: it lies beyond the last row, or another part has its expert
    }
    expert_row = expert * 2u * params.d_ff;
    put_dot_products(unit, params.blocks, inv);
    workgroupBarrier(); // every share of every sum is in place
    let o = unit * N_OUT + inv.index;
    if inv.index < N_OUT && o < params.d_ff {
        let gate = sum_partials(inv.index, inv);
        let up = sum_partials(N_OUT + inv.index, inv);
        // e^80 is finite in f32 and makes silu vanish all the same
        out[slot * params.d_ff + o] = gate / (1.0 + exp(min(-gate, 80.0))) * up;
    }
}
