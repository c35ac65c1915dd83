//! The gather is exact, and a split embedding gives what a whole one gives.

#[test]
fn cases() {
    crate::check("embed");
}
