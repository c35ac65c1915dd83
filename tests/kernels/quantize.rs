//! Activations to bytes, exact but for ties.

#[test]
fn cases() {
    crate::check("quantize");
}
