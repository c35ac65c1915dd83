//! Few rows in a short context.

#[test]
fn cases() {
    crate::check("attention_short");
}
