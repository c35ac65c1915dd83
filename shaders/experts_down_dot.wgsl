// The second half of one token's experts with quantised weights and hidden activations in bytes: out[r] += sum over slots of
// factor * (down_e[r] . hidden[slot]), e the expert of the slot, with integer dot products within a block of 32. Twin of
// experts_down.wgsl.
//
// A workgroup owns N_ROWS rows of out and walks over the blocks of all slots in one loop, so that its invocations have work however
// narrow an expert is. Header: WORKGROUP, N_ROWS, N_SUMS = N_ROWS, MAX_SLOTS.

struct Params {
    blocks: u32,       // columns / 32
    n_slots: u32,      // k, and the slices of the shared expert; at most MAX_SLOTS
    k: u32,
    n_experts: u32,    // those that are chosen from
    first_expert: u32, // of this part of the stack
    n_here: u32,       // experts of this part
    n_rows: u32,       // rows of an expert
    grid_x: u32,       // workgroups in x; y continues where x ends
}
var<immediate> params: Params;

// binding 0: weights, [n_here, n_rows, blocks]
@group(0) @binding(1) var<storage, read> bytes: array<vec4<u32>>;        // [n_slots, blocks, 2]
@group(0) @binding(2) var<storage, read> block_scales: array<vec2<f32>>; // [n_slots, blocks]: d, d times the sum of q
@group(0) @binding(3) var<storage, read> chosen: array<u32>;             // [k]
@group(0) @binding(4) var<storage, read> factors: array<f32>;            // [k + 1], the last one that of every slice of the shared expert
@group(0) @binding(5) var<storage, read_write> out: array<f32>;          // [n_rows]

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
    var sums: array<f32, N_ROWS>;
    var slot = inv.index / params.blocks;
    var b = inv.index % params.blocks;
    let slot_step = WORKGROUP / params.blocks;
    let b_step = WORKGROUP % params.blocks;
    for (var i = inv.index; i < params.n_slots * params.blocks; i += WORKGROUP) {
        let expert = sh_experts[slot];
        if expert != ELSEWHERE {
            let lo = bytes[2u * i];
            let hi = bytes[2u * i + 1u];
            let d = sh_factors[slot] * block_scales[i];
            for (var r = 0u; r < N_ROWS; r++) {
                // past the last row the last one is read again; its sums are not written
                let row = expert * params.n_rows + min(row0 + r, params.n_rows - 1u);
                sums[r] += block_dot(row * params.blocks + b, lo, hi, d);
            }
        }
        slot += slot_step;
        b += b_step;
        if b >= params.blocks {
            b -= params.blocks;
            slot += 1u;
        }
    }
    for (var r = 0u; r < N_ROWS; r++) {
        put_partial(r, sums[r], inv);
    }
    workgroupBarrier(); // every share of every sum is in place
    let row = row0 + inv.index;
    if inv.index < N_ROWS && row < params.n_rows {
        out[row] += sum_partials(inv.index, inv);
    }
}
