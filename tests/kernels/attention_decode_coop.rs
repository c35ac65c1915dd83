//! Few rows on matrix units.

#[test]
fn cases() {
    crate::check("attention_decode_coop");
}
