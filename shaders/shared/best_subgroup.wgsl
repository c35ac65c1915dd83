// The best (value, id) of a workgroup, with subgroup operations. Twin of best_workgroup.wgsl.
//
// Header: WORKGROUP. Ties go to the lowest id, whatever order invocations run in.

struct Invocation {
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) n_subgroups: u32,
}

struct Best {
    value: f32,
    id: u32,
}

var<workgroup> sh_best: array<Best, WORKGROUP / 4u>;

fn better(a: Best, b: Best) -> Best {
    if b.value > a.value || (b.value == a.value && b.id < a.id) {
        return b;
    }
    return a;
}

fn best_of_workgroup(mine: Best, inv: Invocation) -> Best {
    let value = subgroupMax(mine.value);
    let id = subgroupMin(select(0xffffffffu, mine.id, mine.value == value));
    if inv.lane == 0u {
        sh_best[inv.subgroup] = Best(value, id);
    }
    workgroupBarrier(); // all subgroups' winners are in place
    var best = sh_best[0];
    for (var i = 1u; i < inv.n_subgroups; i++) {
        best = better(best, sh_best[i]);
    }
    return best;
}
