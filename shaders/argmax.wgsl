// The id of the largest of the first n_valid logits of each row; ties go to the lowest id. NaN is never chosen.
//
// One workgroup owns one row.

struct Params {
    n_valid: u32, // ids at and above are padding of the vocabulary
    stride: u32,  // columns of a row
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> logits: array<f32>;     // [n_rows, stride]
@group(0) @binding(1) var<storage, read_write> ids: array<u32>;  // [n_rows]

@compute @workgroup_size(WORKGROUP)
fn main(inv: Invocation) {
    let row = inv.group.x;
    // below every finite number, so that a row of -inf and NaN alone ends at id 0
    var mine = Best(-3.4028234e38, 0xffffffffu);
    for (var i = inv.index; i < params.n_valid; i += WORKGROUP) {
        mine = better(mine, Best(logits[row * params.stride + i], i));
    }
    let best = best_of_workgroup(mine, inv);
    if inv.index == 0u {
        ids[row] = select(best.id, 0u, best.id == 0xffffffffu);
    }
}
