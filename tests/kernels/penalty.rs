//! The penalty touches the logits that it names, and no other.

#[test]
fn cases() {
    crate::check("penalty");
}
