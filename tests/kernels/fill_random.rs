//! Random weights are the documented hash, bit for bit.

#[test]
fn cases() {
    crate::check("fill_random");
}
