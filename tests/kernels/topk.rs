//! Candidates of a draw under top-k, exact.

#[test]
fn cases() {
    crate::check("topk");
}
