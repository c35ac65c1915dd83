//! The probes that run at start-up, each on its own.

#[test]
fn cases() {
    crate::check("self_test");
}
