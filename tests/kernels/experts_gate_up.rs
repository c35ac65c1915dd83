//! One token's experts, norm, gate and up against f64.

#[test]
fn cases() {
    crate::check("experts_gate_up");
}
