// How a workgroup shares out its N_ROWS rows of a matrix: an invocation multiplies some columns of every row, and hands in shares of the
// sums. Twin of by_rows.wgsl: same names, same meaning.
//
// put_partial() and the sums are those of reduce_subgroup.wgsl or reduce_workgroup.wgsl, in front of it. Header: WORKGROUP, N_ROWS.

const ROWS_EACH: u32 = N_ROWS;
const GROUP_STEP: u32 = WORKGROUP;

// The first of the invocation's groups of eight columns; the others follow in steps of GROUP_STEP.
fn first_group(inv: Invocation) -> u32 {
    return inv.index;
}

// Which row of the workgroup is number `r` of the invocation.
fn row_of(r: u32, inv: Invocation) -> u32 {
    return r;
}

// put_partial() for a sum of the columns alone, which no row has a part in.
fn put_common(sum: u32, value: f32, inv: Invocation) {
    put_partial(sum, value, inv);
}
