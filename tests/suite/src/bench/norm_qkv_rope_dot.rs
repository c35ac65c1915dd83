//! One token's q, k and v with the norm and integer dot products in one, on every model that is narrow enough in both quantised types.

use qwgpu_runtime::{
    DType, Gpu,
    kernels::{embed_step::Place, has_teams, norm_qkv_rope::Projection, norm_qkv_rope_dot::NormQkvRopeDot, rope::KvLayer},
};

use super::{
    BenchCase, data,
    rope::name_of,
    shapes::{self, Shape},
};

pub(super) fn cases(gpu: &Gpu) -> Vec<BenchCase> {
    if !has_teams(gpu.caps()) {
        return Vec::new();
    }
    let models = shapes::models(gpu).into_iter();
    models
        .filter(|model| model.d_model <= NormQkvRopeDot::MOST_COLUMNS)
        .flat_map(|model| [DType::Q8, DType::Q4].map(|dtype| case(gpu, model, dtype)))
        .collect()
}

fn case(gpu: &Gpu, model: Shape, dtype: DType) -> BenchCase {
    let kv = shapes::kv(gpu);
    let Shape {
        d_model,
        n_heads,
        n_kv_heads,
        head_dim,
        ..
    } = model;
    let (rows, q_cols, kv_cols) = (model.qkv(), n_heads * head_dim, 2 * n_kv_heads * head_dim);
    let name = format!("{} qkv {dtype} [{rows}, {d_model}], {} cache", model.name, name_of(kv));
    let bytes = rows * dtype.row_bytes(d_model) + 8 * d_model + 4 * (rows + q_cols) + kv.bytes() * kv_cols;
    BenchCase::new("norm_qkv_rope_dot", name, (bytes, 2 * rows * d_model), move |gpu, copies| {
        let kernel = NormQkvRopeDot::new(gpu, &[dtype], kv, head_dim)?;
        let matrices = data::weights(gpu, copies, rows, d_model, dtype)?;
        let x = data::inputs(gpu, 1, 1, d_model)?.remove(0);
        let vectors = data::inputs(gpu, 1, 1, d_model + rows)?.remove(0);
        // block 0 and position 0, and no angle
        let place = Place::new(gpu, head_dim)?;
        let cache = KvLayer::new(gpu, 1, n_kv_heads, head_dim, kv)?;
        let qs = data::outputs(gpu, copies, 1, q_cols)?;
        Ok(Box::new(move |pass, i| {
            let projection = Projection {
                weights: &matrices[i],
                x: &x,
                vectors: &vectors,
                eps: 1e-6,
                place: &place,
                q: &qs[i],
                cache: &cache,
            };
            kernel.dispatch(pass, &projection);
        }))
    })
}
