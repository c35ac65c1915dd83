//! Whole models from checkpoints that are embedded in the binary.

#[test]
fn cases() {
    crate::check("model");
}
