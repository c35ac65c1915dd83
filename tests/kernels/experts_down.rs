//! The weighted sum of one token's experts against f64.

#[test]
fn cases() {
    crate::check("experts_down");
}
