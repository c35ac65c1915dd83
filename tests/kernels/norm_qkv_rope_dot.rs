//! One token's q, k and v with the norm and integer dot products in one against f64.

#[test]
fn cases() {
    crate::check("norm_qkv_rope_dot");
}
