//! The norm, with rows of zeros, outliers and denormals.

#[test]
fn cases() {
    crate::check("rms_norm");
}
