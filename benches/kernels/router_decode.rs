pub(super) fn bench(criterion: &mut criterion::Criterion) {
    super::group(criterion, "router_decode");
}
