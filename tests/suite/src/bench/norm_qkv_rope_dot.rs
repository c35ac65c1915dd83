//! One token's q, k and v with the norm and integer dot products in one, on every model that is narrow enough in both quantised types.

use qwgpu_runtime::{
    DType, Gpu,
    kernels::{has_teams, norm_qkv_rope_dot::NormQkvRopeDot},
};

use super::{
    BenchCase,
    norm_qkv_rope::Operands,
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
        let operands = Operands::new(gpu, copies, model, dtype)?;
        Ok(Box::new(move |pass, i| kernel.dispatch(pass, &operands.projection(i))))
    })
}
