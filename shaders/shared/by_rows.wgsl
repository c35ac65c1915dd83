// How a workgroup shares out its N_ROWS rows of a matrix: an invocation has ROWS_EACH rows and all their columns, so that its
// sums are whole.
// Twin of by_columns.wgsl with a reduce_*.wgsl: same names, same meaning.
//
// For CPU drivers, which run neighbouring invocations as the lanes of a vector: all lanes are at the same columns, so what is read of x is
// one scalar for them, where by columns each lane loads its own. Header: WORKGROUP, N_ROWS, a multiple of WORKGROUP, N_SUMS.

struct Invocation {
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
}

const ROWS_EACH: u32 = N_ROWS / WORKGROUP;
const GROUP_STEP: u32 = 1u;

// The first of the invocation's groups of eight columns; the others follow in steps of GROUP_STEP.
fn first_group(inv: Invocation) -> u32 {
    return 0u;
}

// Which row of the workgroup is number `r` of the invocation.
fn row_of(r: u32, inv: Invocation) -> u32 {
    return r * WORKGROUP + inv.index;
}

var<workgroup> sh_sums: array<f32, N_SUMS>;

// Hands in sum number `sum`, of one of the invocation's rows. A workgroupBarrier() must follow before sum_partials().
fn put_partial(sum: u32, value: f32, inv: Invocation) {
    sh_sums[sum] = value;
}

// The same for a sum of the columns alone, which every invocation has.
fn put_common(sum: u32, value: f32, inv: Invocation) {
    if inv.index == 0u {
        sh_sums[sum] = value;
    }
}

// Sum number `sum`; any invocation may ask.
fn sum_partials(sum: u32, inv: Invocation) -> f32 {
    return sh_sums[sum];
}

// Three of them at once.
fn sum_three_partials(sums: vec3<u32>, inv: Invocation) -> vec3<f32> {
    return vec3<f32>(sh_sums[sums.x], sh_sums[sums.y], sh_sums[sums.z]);
}
