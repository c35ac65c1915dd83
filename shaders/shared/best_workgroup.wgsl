// The best (value, id) of a workgroup, through workgroup memory alone. Twin of best_subgroup.wgsl.
//
// Header: WORKGROUP, a power of two. Ties go to the lowest id, whatever order invocations run in.

struct Invocation {
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
}

struct Best {
    value: f32,
    id: u32,
}

var<workgroup> sh_best: array<Best, WORKGROUP>;

fn better(a: Best, b: Best) -> Best {
    if b.value > a.value || (b.value == a.value && b.id < a.id) {
        return b;
    }
    return a;
}

fn best_of_workgroup(mine: Best, inv: Invocation) -> Best {
    sh_best[inv.index] = mine;
    for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
        workgroupBarrier(); // the previous round's winners are in place
        if inv.index < half {
            sh_best[inv.index] = better(sh_best[inv.index], sh_best[inv.index + half]);
        }
    }
    workgroupBarrier(); // the winner is in place
    return sh_best[0];
}
