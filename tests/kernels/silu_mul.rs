//! SwiGLU's middle, with gates beyond the range of exp.

#[test]
fn cases() {
    crate::check("silu_mul");
}
