pub(super) fn bench(criterion: &mut criterion::Criterion) {
    super::group(criterion, "silu_mul_to_f16");
}
