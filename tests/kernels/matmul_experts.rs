//! The tiled product with a stack of experts, at every edge of its tiles.

#[test]
fn cases() {
    crate::check("matmul_experts");
}
