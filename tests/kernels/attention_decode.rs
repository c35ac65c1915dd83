//! Split attention with its merge, as decode runs it.

#[test]
fn cases() {
    crate::check("attention_decode");
}
