// The first half of one token's feed-forward with quantised weights, the result in bytes, as the product behind it takes them:
// hidden[slot] = silu(gate_e n) * (up_e n), n = x / sqrt(mean(x^2) + eps) * norm in bytes, of the expert e of each slot. A dense network is
// a stack of one. What norm_quantize.wgsl, experts_gate_up_dot.wgsl or gate_up_dot.wgsl, and quantize.wgsl do, in one dispatch.
//
// One workgroup owns a block of 32 outputs of a slot; each of its teams of LANES invocations owns four: four rows of gate and the same
// of up, d_ff rows further on, whose blocks it shares out. With AHEAD the first of those are on their way while x is normalised; it takes
// registers that other workgroups could use. Header: WORKGROUP, N_SLOTS = TEAMS, AHEAD (0 or 1).

struct Params {
    blocks: u32,       // columns / 32
    d_ff: u32,         // rows of an expert's gate, and of its up; a multiple of 32
    k: u32,
    n_experts: u32,    // those that are chosen from
    first_expert: u32, // of this part of the stack
    n_here: u32,       // experts of this part
    grid_x: u32,       // workgroups in x; y continues where x ends
    eps: f32,
    inv_d: f32,        // 1 / columns
}
var<immediate> params: Params;

// binding 0: weights, [n_here, 2, d_ff, blocks]; 1: x; 2: vectors, the norm's weights
@group(0) @binding(3) var<storage, read> chosen: array<u32>;                   // [k]
@group(0) @binding(4) var<storage, read_write> bytes: array<u32>;              // [slots, d_ff / 32, 8]
@group(0) @binding(5) var<storage, read_write> block_scales: array<vec2<f32>>; // [slots, d_ff / 32]

const LANES: u32 = 32u;
const TEAMS: u32 = WORKGROUP / LANES;

// A block each of four neighbouring rows. Names instead of an array, which would end up in memory.
struct FourRows {
    r0: BlockWeights,
    r1: BlockWeights,
    r2: BlockWeights,
    r3: BlockWeights,
}

// `block` is that of the first row.
fn four_rows(block: u32) -> FourRows {
    let n = params.blocks;
    return FourRows(block_weights(block), block_weights(block + n), block_weights(block + 2u * n), block_weights(block + 3u * n));
}

// Their products with block `b` of x.
fn four_dots(w: FourRows, b: u32) -> vec4<f32> {
    let lo = sh_halves[2u * b];
    let hi = sh_halves[2u * b + 1u];
    let d = sh_x_scales[b];
    return vec4<f32>(weights_dot(w.r0, lo, hi, d), weights_dot(w.r1, lo, hi, d), weights_dot(w.r2, lo, hi, d), weights_dot(w.r3, lo, hi, d));
}

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
    var b = lane_of(inv);
    // without AHEAD these are of no use, and compilers leave them out; past the end the last block is read again
    let first_gate = four_rows(gate0 + min(b, params.blocks - 1u));
    let first_up = four_rows(up0 + min(b, params.blocks - 1u));
    put_normed(params.blocks, params.eps, params.inv_d, inv);
    var gate = vec4<f32>(0.0);
    var up = vec4<f32>(0.0);
    if AHEAD == 1u {
        if b < params.blocks {
            gate = four_dots(first_gate, b);
            up = four_dots(first_up, b);
        }
        b += LANES;
    }
    for (; b < params.blocks; b += LANES) {
        gate += four_dots(four_rows(gate0 + b), b);
        up += four_dots(four_rows(up0 + b), b);
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
