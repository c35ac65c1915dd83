// Sums over teams of LANES invocations, which lie within a subgroup. Twin of team_workgroup.wgsl: same names, same meaning.
//
// The kernel defines LANES, at most the lanes of a subgroup.

struct Invocation {
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_size) size: u32,
}

// Which team the invocation belongs to.
fn team_of(inv: Invocation) -> u32 {
    return (inv.subgroup * inv.size + inv.lane) / LANES;
}

// Its place in the team.
fn lane_of(inv: Invocation) -> u32 {
    return inv.lane % LANES;
}

// The sum of all lanes of the invocation's team. Every invocation of the workgroup has to ask.
fn team_sum(v: vec4<f32>, inv: Invocation) -> vec4<f32> {
    var sum = vec4<f32>(0.0);
    for (var other = 0u; other < inv.size / LANES; other++) {
        let is_mine = other == inv.lane / LANES;
        let total = subgroupAdd(select(vec4<f32>(0.0), v, is_mine));
        sum = select(sum, total, is_mine);
    }
    return sum;
}
