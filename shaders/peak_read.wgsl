// How fast this adapter reads memory: every word of a large buffer once, added up so that nothing can be left out.
//
// A workgroup takes stretches of LOADS * WORKGROUP vec4s, n_groups stretches apart, n_steps of them. Its LOADS loads depend on
// nothing, so all of them are under way at once. Sums wrap.

struct Params {
    n_steps: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> data: array<vec4<u32>>;      // [n_steps, n_groups, LOADS, WORKGROUP]
@group(0) @binding(1) var<storage, read_write> sums: array<u32>;      // [n_groups]

const WORKGROUP: u32 = 256u;
const LOADS: u32 = 8u;

var<workgroup> partial: array<u32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    var sum = vec4<u32>(0u);
    for (var step = 0u; step < params.n_steps; step++) {
        let i = (step * n_groups.x + group.x) * (LOADS * WORKGROUP) + index;
        let v0 = data[i];
        let v1 = data[i + WORKGROUP];
        let v2 = data[i + 2u * WORKGROUP];
        let v3 = data[i + 3u * WORKGROUP];
        let v4 = data[i + 4u * WORKGROUP];
        let v5 = data[i + 5u * WORKGROUP];
        let v6 = data[i + 6u * WORKGROUP];
        let v7 = data[i + 7u * WORKGROUP];
        sum += ((v0 + v1) + (v2 + v3)) + ((v4 + v5) + (v6 + v7));
    }
    partial[index] = sum.x + sum.y + sum.z + sum.w;
    for (var width = WORKGROUP / 2u; width > 0u; width /= 2u) {
        workgroupBarrier(); // the wider halves are in place
        if index < width {
            partial[index] += partial[index + width];
        }
    }
    if index == 0u {
        sums[group.x] = partial[0];
    }
}
