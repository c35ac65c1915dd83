//! The tiled product at every edge of its tiles.

#[test]
fn cases() {
    crate::check("matmul");
}
