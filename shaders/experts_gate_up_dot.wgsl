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

// binding 0: weights, [n_here, 2, d_ff, blocks]
@group(0) @binding(1) var<storage, read> bytes: array<vec4<u32>>;        // [blocks, 2]
@group(0) @binding(2) var<storage, read> block_scales: array<vec2<f32>>; // [blocks]: d, d times the sum of q
@group(0) @binding(3) var<storage, read> chosen: array<u32>;             // [k]
@group(0) @binding(4) var<storage, read_write> out: array<f32>;          // [k + slices of the shared expert, d_ff]

const N_OUT: u32 = N_ROWS / 2u;

@compute @workgroup_size(WORKGROUP)
fn main(inv: Invocation) {
    let unit = inv.group.y * params.grid_x + inv.group.x;
    let slot = inv.group.z;
    let expert = expert_here(slot);
    if unit * N_OUT >= params.d_ff || expert == ELSEWHERE {
        return; // the whole workgroup leaves: it lies beyond the last row, or another part has its expert
    }
    var sums: array<f32, N_ROWS>;
    for (var b = inv.index; b < params.blocks; b += WORKGROUP) {
        let lo = bytes[2u * b];
        let hi = bytes[2u * b + 1u];
        let d = block_scales[b];
        for (var r = 0u; r < N_ROWS; r++) {
            // past gate's last row that one is read again; its sums are not written
            let in_half = min(unit * N_OUT + r % N_OUT, params.d_ff - 1u);
            let row = (2u * expert + r / N_OUT) * params.d_ff + in_half;
            sums[r] += block_dot(row * params.blocks + b, lo, hi, d);
        }
    }
    for (var r = 0u; r < N_ROWS; r++) {
        put_partial(r, sums[r], inv);
    }
    workgroupBarrier(); // every share of every sum is in place
    let o = unit * N_OUT + inv.index;
    if inv.index < N_OUT && o < params.d_ff {
        let gate = sum_partials(inv.index, inv);
        let up = sum_partials(N_OUT + inv.index, inv);
        // e^80 is finite in f32 and makes silu vanish all the same
        out[slot * params.d_ff + o] = gate / (1.0 + exp(min(-gate, 80.0))) * up;
    }
}
