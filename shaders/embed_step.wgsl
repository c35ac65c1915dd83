// What a one-token step begins with: the token's embedding, widened to f32, and its place, which every layer then reads.
//
// The place is where the token goes in the cache and the angles by which its heads turn: cos and sin by angle addition from rope's
// table, pos = 256 h + l (see rope.wgsl). One invocation moves eight elements of the embedding, and the first `pairs` of the
// first workgroup each compose one angle. A matrix that is split over bindings runs once for each part.

struct Params {
    groups: u32,          // d_model / 8
    first_row: u32,       // first embedding row of this part
    n_rows: u32,          // embedding rows of this part
    pairs: u32,           // head_dim / 2, 64 at most
    blocks_per_slot: u32, // columns of the block table
    block_size: u32,      // positions of a block
}
var<immediate> params: Params;

// binding 0: weights, [n_rows, d_model]
@group(0) @binding(1) var<storage, read> rows: array<Row>;            // [1]
@group(0) @binding(2) var<storage, read> table: array<vec2<f32>>;     // [256 + n_hi, head_dim / 2], (cos, sin)
@group(0) @binding(3) var<storage, read> block_table: array<u32>;     // [n_slots, blocks_per_slot]
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>; // [d_model]
@group(0) @binding(5) var<storage, read_write> place: Place;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.x;
    let row = rows[0];
    if i < params.pairs {
        let lo = table[(row.rope_pos % 256u) * params.pairs + i];
        let hi = table[(256u + row.rope_pos / 256u) * params.pairs + i];
        place.turns[i] = vec2<f32>(hi.x * lo.x - hi.y * lo.y, hi.y * lo.x + hi.x * lo.y);
    }
    if i == 0u {
        place.block = block_table[row.slot * params.blocks_per_slot + row.pos / params.block_size];
        place.in_block = row.pos % params.block_size;
    }
    if i >= params.groups || row.token < params.first_row || row.token - params.first_row >= params.n_rows {
        return;
    }
    let w = weight8((row.token - params.first_row) * params.groups + i);
    out[2u * i] = w.lo;
    out[2u * i + 1u] = w.hi;
}
