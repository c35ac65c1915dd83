pub(super) fn bench(criterion: &mut criterion::Criterion) {
    super::group(criterion, "qkv_rope_dot");
}
