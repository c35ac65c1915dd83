//! One token's q, k and v with integer dot products against f64.

#[test]
fn cases() {
    crate::check("qkv_rope_dot");
}
