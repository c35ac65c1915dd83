// How fast this adapter multiplies cooperative matrices, f16 into f32: eight independent sums of 16 x 16 that stay in registers.
//
// The operands hold small integers, so that every step is exact and the result says how many there were. 8 * 2 * 16 * 16 * 16
// operations a step and subgroup. Header: WORKGROUP, one subgroup.

struct Params {
    n_steps: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> data: array<f16>;        // [16, 16]: both operands
@group(0) @binding(1) var<storage, read> begin: array<f32>;       // [8, 16, 16]: where the sums begin, no two alike
@group(0) @binding(2) var<storage, read_write> sums: array<f32>;  // [n_groups, 16, 16]

alias Sum = coop_mat16x16<f32, C>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>) {
    let a = coopLoadT<coop_mat16x16<f16, A>>(&data[0], 16u);
    let b = coopLoadT<coop_mat16x16<f16, B>>(&data[0], 16u);
    var c0 = coopLoadT<Sum>(&begin[0], 16u);
    var c1 = coopLoadT<Sum>(&begin[256], 16u);
    var c2 = coopLoadT<Sum>(&begin[512], 16u);
    var c3 = coopLoadT<Sum>(&begin[768], 16u);
    var c4 = coopLoadT<Sum>(&begin[1024], 16u);
    var c5 = coopLoadT<Sum>(&begin[1280], 16u);
    var c6 = coopLoadT<Sum>(&begin[1536], 16u);
    var c7 = coopLoadT<Sum>(&begin[1792], 16u);
    for (var step = 0u; step < params.n_steps; step++) {
        c0 = coopMultiplyAdd(a, b, c0);
        c1 = coopMultiplyAdd(a, b, c1);
        c2 = coopMultiplyAdd(a, b, c2);
        c3 = coopMultiplyAdd(a, b, c3);
        c4 = coopMultiplyAdd(a, b, c4);
        c5 = coopMultiplyAdd(a, b, c5);
        c6 = coopMultiplyAdd(a, b, c6);
        c7 = coopMultiplyAdd(a, b, c7);
    }
    let sum = ((c0 + c1) + (c2 + c3)) + ((c4 + c5) + (c6 + c7));
    coopStoreT(sum, &sums[group.x * 256u], 16u);
}
