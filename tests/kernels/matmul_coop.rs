//! The product on matrix units at every edge of its tiles.

#[test]
fn cases() {
    crate::check("matmul_coop");
}
