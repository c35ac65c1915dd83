//! The merge of split attention alone, on made-up partial results.

#[test]
fn cases() {
    crate::check("attention_merge");
}
