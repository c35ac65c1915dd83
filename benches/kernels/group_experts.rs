pub(super) fn bench(criterion: &mut criterion::Criterion) {
    super::group(criterion, "group_experts");
}
