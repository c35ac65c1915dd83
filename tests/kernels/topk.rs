//! The k largest logits are exact in order and ids.

#[test]
fn cases() {
    crate::check("topk");
}
