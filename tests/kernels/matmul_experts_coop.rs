//! The product with a stack of experts on matrix units, at every edge of its tiles.

#[test]
fn cases() {
    crate::check("matmul_experts_coop");
}
