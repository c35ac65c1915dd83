//! One token's experts, gate and up with integer dot products against f64.

#[test]
fn cases() {
    crate::check("experts_gate_up_dot");
}
