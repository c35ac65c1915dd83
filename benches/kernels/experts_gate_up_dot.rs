pub(super) fn bench(criterion: &mut criterion::Criterion) {
    super::group(criterion, "experts_gate_up_dot");
}
