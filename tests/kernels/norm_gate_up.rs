//! One token's norm, gate and up against f64.

#[test]
fn cases() {
    crate::check("norm_gate_up");
}
