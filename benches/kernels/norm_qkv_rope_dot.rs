pub(super) fn bench(criterion: &mut criterion::Criterion) {
    super::group(criterion, "norm_qkv_rope_dot");
}
