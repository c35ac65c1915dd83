//! One token's norm, q, k and v against f64, and the cache write.

#[test]
fn cases() {
    crate::check("norm_qkv_rope");
}
