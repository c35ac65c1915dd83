//! Rotation against f64 up to position 131,071, and the cache write.

#[test]
fn cases() {
    crate::check("rope");
}
