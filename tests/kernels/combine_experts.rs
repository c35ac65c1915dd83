//! The weighted sum of what a token's experts have made.

#[test]
fn cases() {
    crate::check("combine_experts");
}
