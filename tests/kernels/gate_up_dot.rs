//! Gate and up with integer dot products against f64.

#[test]
fn cases() {
    crate::check("gate_up_dot");
}
