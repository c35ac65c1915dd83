// Sums over a workgroup through workgroup memory alone. Twin of reduce_subgroup.wgsl: same names, same meaning.
//
// Header: WORKGROUP (invocations), N_SUMS (sums that are in flight at once).
// The invocation that asks adds WORKGROUP values in order: no tree, so one barrier does.

struct Invocation {
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
}

var<workgroup> sh_partials: array<f32, N_SUMS * WORKGROUP>;

// Every invocation hands in its share of sum number `sum`. A workgroupBarrier() must follow before sum_partials().
fn put_partial(sum: u32, value: f32, inv: Invocation) {
    sh_partials[sum * WORKGROUP + inv.index] = value;
}

// The whole workgroup's sum number `sum`; any invocation may ask.
fn sum_partials(sum: u32, inv: Invocation) -> f32 {
    var total = 0.0;
    for (var i = 0u; i < WORKGROUP; i++) {
        total += sh_partials[sum * WORKGROUP + i];
    }
    return total;
}

// Three of them at once: their loads do not wait for each other.
fn sum_three_partials(sums: vec3<u32>, inv: Invocation) -> vec3<f32> {
    let first = sums * WORKGROUP;
    var total = vec3<f32>();
    for (var j = 0u; j < WORKGROUP; j++) {
        total += vec3<f32>(sh_partials[first.x + j], sh_partials[first.y + j], sh_partials[first.z + j]);
    }
    return total;
}
