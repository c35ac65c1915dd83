// Products of some rows of a quantised matrix with a vector in bytes: integer dot products within a block of 32, f32 sums across blocks.
//
// The kernel defines matrix_row(unit, r), the row of the matrix that is number r of workgroup `unit`. The vector is that of
// bytes_apart.wgsl or bytes_joined.wgsl. Header: WORKGROUP, N_ROWS, N_SUMS = N_ROWS.

// binding 0: weights, [rows, blocks]

// Every invocation hands in its share of all sums. A workgroupBarrier() must follow.
fn put_dot_products(unit: u32, blocks: u32, inv: Invocation) {
    var sums: array<f32, N_ROWS>;
    for (var b = inv.index; b < blocks; b += WORKGROUP) {
        let lo = bytes[2u * b];
        let hi = bytes[2u * b + 1u];
        let d = scales_of(b);
        for (var r = 0u; r < N_ROWS; r++) {
            sums[r] += block_dot(matrix_row(unit, r) * blocks + b, lo, hi, d);
        }
    }
    for (var r = 0u; r < N_ROWS; r++) {
        put_partial(r, sums[r], inv);
    }
}
