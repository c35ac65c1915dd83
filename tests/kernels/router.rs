//! The choice of experts: logits, softmax, ids, factors and counters.

#[test]
fn cases() {
    crate::check("router");
}
