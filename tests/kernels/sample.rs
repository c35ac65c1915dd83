//! The token drawn is the one of the definition, or its neighbour where rounding explains it.

#[test]
fn cases() {
    crate::check("sample");
}
