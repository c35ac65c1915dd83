// Self-test of subgroup operations: the sum, maximum and minimum over each subgroup, and the ids that kernels derive memory from.
//
// One invocation owns one value and reports what it saw; the host groups the reports by subgroup, whatever the size, and compares.
//
// Header: WORKGROUP (invocations).

struct Params {
    n: u32, // values, a multiple of WORKGROUP
}

var<immediate> params: Params;

struct Seen {
    lane: u32,
    subgroup: u32,
    n_subgroups: u32,
    least: u32,
    sum: f32,
    most: f32,
}

@group(0) @binding(0) var<storage, read> values: array<f32>; // [n]
@group(0) @binding(1) var<storage, read> ids: array<u32>; // [n]
@group(0) @binding(2) var<storage, read_write> seen: array<Seen>; // [n]

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) n_subgroups: u32,
) {
    // never past the end; written so that all invocations stay together
    let i = min(group.x * WORKGROUP + index, params.n - 1u);
    let value = values[i];
    let sum = subgroupAdd(value);
    let most = subgroupMax(value);
    let least = subgroupMin(ids[i]);
    seen[i] = Seen(lane, subgroup, n_subgroups, least, sum, most);
}
