pub(super) fn bench(criterion: &mut criterion::Criterion) {
    super::group(criterion, "attention_short");
}
