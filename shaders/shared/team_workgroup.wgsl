// Sums over teams of LANES invocations, through workgroup memory. Twin of team_subgroup.wgsl: same names, same meaning.
//
// The kernel defines WORKGROUP and LANES.

struct Invocation {
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
}

var<workgroup> sh_team: array<vec4<f32>, WORKGROUP>;

// Which team the invocation belongs to.
fn team_of(inv: Invocation) -> u32 {
    return inv.index / LANES;
}

// Its place in the team.
fn lane_of(inv: Invocation) -> u32 {
    return inv.index % LANES;
}

// The sum of all lanes of the invocation's team. Every invocation of the workgroup has to ask.
fn team_sum(v: vec4<f32>, inv: Invocation) -> vec4<f32> {
    sh_team[inv.index] = v;
    workgroupBarrier(); // every lane's share is in place
    var sum = vec4<f32>(0.0);
    for (var lane = 0u; lane < LANES; lane++) {
        sum += sh_team[team_of(inv) * LANES + lane];
    }
    workgroupBarrier(); // and has been read
    return sum;
}
