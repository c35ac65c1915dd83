//! Rows to f16, each with a scale of its own.

#[test]
fn cases() {
    crate::check("to_f16");
}
