//! The weighted sum of one token's experts with integer dot products against f64.

#[test]
fn cases() {
    crate::check("experts_down_dot");
}
