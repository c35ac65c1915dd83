//! Gate and up from bytes to bytes.

#[test]
fn cases() {
    crate::check("gate_up_bytes");
}
