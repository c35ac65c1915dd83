//! Greedy choice is exact: ties, NaN, infinities, padded vocabularies.

#[test]
fn cases() {
    crate::check("argmax");
}
