// The first half of one token's feed-forward with quantised weights and a normalised x in bytes, and the result in bytes too, as the
// product behind it takes them: hidden[slot] = silu(gate_e x) * (up_e x) of the expert e of each slot. A dense network is a stack of one.
// What experts_gate_up_dot.wgsl or gate_up_dot.wgsl and quantize.wgsl do, in one dispatch.
//
// One workgroup owns a block of 32 outputs of a slot; each of its teams of LANES invocations owns four: four rows of gate and the same
// of up, d_ff rows further on, whose blocks it shares out. Header: WORKGROUP, N_SLOTS = TEAMS. Needs one shared/team_*.wgsl.

struct Params {
    blocks: u32,       // columns / 32
    d_ff: u32,         // rows of an expert's gate, and of its up; a multiple of 32
    k: u32,
    n_experts: u32,    // those that are chosen from
    first_expert: u32, // of this part of the stack
    n_here: u32,       // experts of this part
    grid_x: u32,       // workgroups in x; y continues where x ends
}
var<immediate> params: Params;

// binding 0: weights, [n_here, 2, d_ff, blocks]
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;         // [blocks, 2], bytes
@group(0) @binding(2) var<storage, read> x_scales: array<vec2<f32>>;  // [blocks]: d, d times the sum of q
@group(0) @binding(3) var<storage, read> chosen: array<u32>;          // [k]
@group(0) @binding(4) var<storage, read_write> bytes: array<u32>;     // [slots, d_ff / 32, 8]
@group(0) @binding(5) var<storage, read_write> block_scales: array<vec2<f32>>; // [slots, d_ff / 32]

const LANES: u32 = 32u;
const TEAMS: u32 = WORKGROUP / LANES;

@compute @workgroup_size(WORKGROUP)
fn main(inv: Invocation) {
    let unit = inv.group.y * params.grid_x + inv.group.x;
    let slot = inv.group.z;
    let expert = expert_here(slot);
    if 32u * unit >= params.d_ff || expert == ELSEWHERE {
        return; // the whole workgroup leaves: it lies beyond the last row, or another part has its expert
    }
    let team = team_of(inv);
    let row = 2u * expert * params.d_ff + 32u * unit + 4u * team;
    let gate0 = row * params.blocks;
    let up0 = (row + params.d_ff) * params.blocks;
    var gate = vec4<f32>(0.0);
    var up = vec4<f32>(0.0);
    for (var b = lane_of(inv); b < params.blocks; b += LANES) {
        let lo = x[2u * b];
        let hi = x[2u * b + 1u];
        let d = x_scales[b];
        let n = params.blocks;
        gate += vec4<f32>(
            block_dot(gate0 + b, lo, hi, d),
            block_dot(gate0 + n + b, lo, hi, d),
            block_dot(gate0 + 2u * n + b, lo, hi, d),
            block_dot(gate0 + 3u * n + b, lo, hi, d),
        );
        up += vec4<f32>(
            block_dot(up0 + b, lo, hi, d),
            block_dot(up0 + n + b, lo, hi, d),
            block_dot(up0 + 2u * n + b, lo, hi, d),
            block_dot(up0 + 3u * n + b, lo, hi, d),
        );
    }
    gate = team_sum(gate, inv);
    up = team_sum(up, inv);
    // e^80 is finite in f32 and makes silu vanish all the same
    let hidden = gate / (1.0 + exp(min(-gate, vec4<f32>(80.0)))) * up;
    let is_first = lane_of(inv) == 0u;
    let i = 8u * (slot * (params.d_ff / 32u) + unit) + team;
    if is_first {
        put_largest(team, hidden);
    }
    workgroupBarrier(); // all largest magnitudes are in place
    if is_first {
        put_word(team, i, hidden);
    }
    workgroupBarrier(); // all sums are in place
    if is_first && team == 0u {
        put_scales(0u, i);
    }
}
