// Products of some rows of a matrix with one RMS-normalised vector, the norm taking no pass of its own:
// W norm(x) = W (x * norm_weight) * (1 / sqrt(mean(x^2) + eps)). Every workgroup sees all of x, so it adds up the squares on the way,
// and the factor is left for the sums.
//
// The kernel defines matrix_row(unit, r), the row of the matrix that is number r of workgroup `unit`.
// Header: WORKGROUP, N_ROWS, N_SUMS = N_ROWS + 1: the last sum is that of the squares.

// binding 0: weights, [rows, columns]
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;       // [columns]
@group(0) @binding(2) var<storage, read> vectors: array<vec4<f32>>; // the norm's weights, [columns], and what the kernel keeps behind them

// Every invocation hands in its share of all sums. A workgroupBarrier() must follow.
fn put_products(unit: u32, groups: u32, inv: Invocation) {
    var squares = 0.0;
    var sums: array<f32, ROWS_EACH>;
    for (var g = first_group(inv); g < groups; g += GROUP_STEP) {
        let x_lo = x[2u * g];
        let x_hi = x[2u * g + 1u];
        squares += dot(x_lo, x_lo) + dot(x_hi, x_hi);
        let lo = x_lo * vectors[2u * g];
        let hi = x_hi * vectors[2u * g + 1u];
        for (var r = 0u; r < ROWS_EACH; r++) {
            sums[r] += dot8(levels8(matrix_row(unit, row_of(r, inv)) * groups + g), lo, hi);
        }
    }
    for (var r = 0u; r < ROWS_EACH; r++) {
        put_partial(row_of(r, inv), sums[r], inv);
    }
    put_common(N_ROWS, squares, inv);
}

// Rows number `a` and `b` of the workgroup, normalised; `inv_d` is 1 / columns.
fn two_products(a: u32, b: u32, inv_d: f32, eps: f32, inv: Invocation) -> vec2<f32> {
    let sums = sum_three_partials(vec3<u32>(a, b, N_ROWS), inv);
    return sums.xy * (1.0 / sqrt(sums.z * inv_d + eps));
}
