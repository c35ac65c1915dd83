//! Products of 1 to 8 rows, with every epilogue and weight type.

#[test]
fn cases() {
    crate::check("matvec");
}
