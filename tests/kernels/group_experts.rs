//! Lists of rows by expert, from even choices to all tokens at one.

#[test]
fn cases() {
    crate::check("group_experts");
}
