pub(super) fn bench(criterion: &mut criterion::Criterion) {
    super::group(criterion, "experts_down_dot");
}
