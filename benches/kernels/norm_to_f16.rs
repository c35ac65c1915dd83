pub(super) fn bench(criterion: &mut criterion::Criterion) {
    super::group(criterion, "norm_to_f16");
}
