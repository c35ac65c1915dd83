//! A one-token step's embedding and place.

#[test]
fn cases() {
    crate::check("embed_step");
}
