//! Tiled attention, as prefill runs it.

#[test]
fn cases() {
    crate::check("attention_prefill");
}
