// The first half of one token's experts: out[slot] = silu(gate_e norm(x)) * (up_e norm(x)) of the expert e of each slot.
//
// The grid has the slots in z; in x and y a workgroup owns N_ROWS / 2 neighbouring rows of its expert's gate and the same of up, d_ff
// rows further on. Header: WORKGROUP, N_ROWS (even).

struct Params {
    groups: u32,       // columns / 8
    d_ff: u32,         // rows of an expert's gate, and of its up
    k: u32,
    n_experts: u32,    // those that are chosen from
    first_expert: u32, // of this part of the stack
    n_here: u32,       // experts of this part
    eps: f32,
    inv_d: f32,        // 1 / columns
    grid_x: u32,       // workgroups in x; y continues where x ends
}
var<immediate> params: Params;

// binding 0: weights, [n_here, 2, d_ff, columns]; 1: x; 2: vectors, the norm's weights alone
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
    put_products(unit, params.groups, inv);
    workgroupBarrier(); // every share of every sum is in place
    for (var i = inv.index; i < N_OUT; i += WORKGROUP) {
        let o = unit * N_OUT + i;
        if o < params.d_ff {
            let y = two_products(i, N_OUT + i, params.inv_d, params.eps, inv);
            // e^80 is finite in f32 and makes silu vanish all the same
            out[slot * params.d_ff + o] = y.x / (1.0 + exp(min(-y.x, 80.0))) * y.y;
        }
    }
}
