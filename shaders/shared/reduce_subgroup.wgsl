// Sums over a workgroup, with subgroup operations. Twin of reduce_workgroup.wgsl: same names, same meaning.
//
// Header: WORKGROUP (invocations), N_SUMS (sums that are in flight at once).
// The host turns this part off where a subgroup may have fewer than 4 lanes.

struct Invocation {
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) n_subgroups: u32,
}

const PARTIALS: u32 = WORKGROUP / 4u;
var<workgroup> sh_partials: array<f32, N_SUMS * PARTIALS>;

// Every invocation hands in its share of sum number `sum`. A workgroupBarrier() must follow before sum_partials().
fn put_partial(sum: u32, value: f32, inv: Invocation) {
    let total = subgroupAdd(value);
    if inv.lane == 0u {
        sh_partials[sum * PARTIALS + inv.subgroup] = total;
    }
}

// The whole workgroup's sum number `sum`; any invocation may ask.
fn sum_partials(sum: u32, inv: Invocation) -> f32 {
    var total = 0.0;
    for (var i = 0u; i < inv.n_subgroups; i++) {
        total += sh_partials[sum * PARTIALS + i];
    }
    return total;
}

// Three of them at once: their loads do not wait for each other.
fn sum_three_partials(sums: vec3<u32>, inv: Invocation) -> vec3<f32> {
    let first = sums * PARTIALS;
    var total = vec3<f32>();
    for (var j = 0u; j < inv.n_subgroups; j++) {
        total += vec3<f32>(sh_partials[first.x + j], sh_partials[first.y + j], sh_partials[first.z + j]);
    }
    return total;
}
