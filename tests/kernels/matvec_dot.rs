//! Quantised matrices times one vector of bytes.

#[test]
fn cases() {
    crate::check("matvec_dot");
}
