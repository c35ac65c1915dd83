//! One token's norm, straight to bytes.

#[test]
fn cases() {
    crate::check("norm_quantize");
}
