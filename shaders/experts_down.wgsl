// The second half of one token's experts, weighted and added to the residual: out[r] += sum over slots of factor * (down_e[r] . hidden[slot]),
// e the expert of the slot.
//
// A workgroup owns N_ROWS rows of out and walks over the columns of all slots in one loop, so that its invocations have work however
// narrow an expert is. Header: WORKGROUP, N_ROWS, N_SUMS = N_ROWS, MAX_SLOTS.

struct Params {
    groups: u32,       // columns / 8
    n_slots: u32,      // k, and the slices of the shared expert; at most MAX_SLOTS
    k: u32,
    n_experts: u32,    // those that are chosen from
    first_expert: u32, // of this part of the stack
    n_here: u32,       // experts of this part
    n_rows: u32,       // rows of an expert
    grid_x: u32,       // workgroups in x; y continues where x ends
}
var<immediate> params: Params;

// binding 0: weights, [n_here, n_rows, columns]
@group(0) @binding(1) var<storage, read> hidden: array<vec4<f32>>; // [n_slots, columns]
@group(0) @binding(2) var<storage, read> chosen: array<u32>;       // [k]
@group(0) @binding(3) var<storage, read> factors: array<f32>;      // [k + 1], the last one that of every slice of the shared expert
@group(0) @binding(4) var<storage, read_write> out: array<f32>;    // [n_rows]

var<workgroup> sh_experts: array<u32, MAX_SLOTS>; // where in this part, or ELSEWHERE
var<workgroup> sh_factors: array<f32, MAX_SLOTS>;

@compute @workgroup_size(WORKGROUP)
fn main(inv: Invocation) {
    let row0 = (inv.group.y * params.grid_x + inv.group.x) * N_ROWS;
    if row0 >= params.n_rows {
        return; // the whole workgroup leaves: it lies beyond the last row
    }
    for (var slot = inv.index; slot < params.n_slots; slot += WORKGROUP) {
        sh_experts[slot] = expert_here(slot);
        sh_factors[slot] = factors[min(slot, params.k)];
    }
    workgroupBarrier(); // every slot is in place
    var sums: array<f32, ROWS_EACH>;
    var slot = first_group(inv) / params.groups;
    var g = first_group(inv) % params.groups;
    let slot_step = GROUP_STEP / params.groups;
    let g_step = GROUP_STEP % params.groups;
    for (var i = first_group(inv); i < params.n_slots * params.groups; i += GROUP_STEP) {
        let expert = sh_experts[slot];
        if expert != ELSEWHERE {
            let lo = sh_factors[slot] * hidden[2u * i];
            let hi = sh_factors[slot] * hidden[2u * i + 1u];
            for (var r = 0u; r < ROWS_EACH; r++) {
                // past the last row the last one is read again; its sums are not written
                let row = expert * params.n_rows + min(row0 + row_of(r, inv), params.n_rows - 1u);
                sums[r] += dot8(levels8(row * params.groups + g), lo, hi);
            }
        }
        slot += slot_step;
        g += g_step;
        if g >= params.groups {
            g -= params.groups;
            slot += 1u;
        }
    }
    for (var r = 0u; r < ROWS_EACH; r++) {
        put_partial(row_of(r, inv), sums[r], inv);
    }
    workgroupBarrier(); // every share of every sum is in place
    for (var r = inv.index; r < N_ROWS; r += WORKGROUP) {
        if row0 + r < params.n_rows {
            out[row0 + r] += sum_partials(r, inv);
        }
    }
}
