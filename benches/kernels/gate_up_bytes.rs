pub(super) fn bench(criterion: &mut criterion::Criterion) {
    super::group(criterion, "gate_up_bytes");
}
