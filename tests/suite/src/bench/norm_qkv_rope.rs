//! One token's q, k and v, on every model in each type of weights.

use qwgpu_runtime::{
    DType, Gpu,
    kernels::{
        embed_step::Place,
        norm_qkv_rope::{NormQkvRope, Projection},
        rope::KvLayer,
    },
};

use super::{
    BenchCase, data,
    rope::name_of,
    shapes::{self, Shape},
};

pub(super) fn cases(gpu: &Gpu) -> Vec<BenchCase> {
    let models = shapes::models(gpu).into_iter();
    models.flat_map(|model| DType::ALL.map(|dtype| case(gpu, model, dtype))).collect()
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
    let bytes = rows * dtype.row_bytes(d_model) + 4 * (2 * d_model + rows + q_cols) + kv.bytes() * kv_cols;
    BenchCase::new("norm_qkv_rope", name, (bytes, 2 * rows * d_model), move |gpu, copies| {
        let kernel = NormQkvRope::new(gpu, &[dtype], kv, head_dim)?;
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
