//! Many rows on matrix units.

#[test]
fn cases() {
    crate::check("attention_prefill_coop");
}
