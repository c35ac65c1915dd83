//! One token's q, k and v, on every model in each type of weights.

use std::sync::Arc;

use qwgpu_runtime::{
    DType, Gpu, Matrix, Result, Tensor,
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

/// What the kernels for q, k and v have in common, the matrix and q in so many copies.
pub(super) struct Operands {
    matrices: Vec<Matrix>,
    pub(super) x: Tensor,
    vectors: Tensor,
    place: Place,
    cache: KvLayer,
    qs: Vec<Tensor>,
}

impl Operands {
    pub(super) fn new(gpu: &Arc<Gpu>, copies: usize, model: Shape, dtype: DType) -> Result<Self> {
        let (rows, d_model, head_dim) = (model.qkv(), model.d_model, model.head_dim);
        Ok(Self {
            matrices: data::weights(gpu, copies, rows, d_model, dtype)?,
            x: data::inputs(gpu, 1, 1, d_model)?.remove(0),
            vectors: data::inputs(gpu, 1, 1, d_model + rows)?.remove(0),
            place: Place::new(gpu, head_dim)?, // block 0 and position 0, and no angle
            cache: KvLayer::new(gpu, 1, model.n_kv_heads, head_dim, shapes::kv(gpu))?,
            qs: data::outputs(gpu, copies, 1, model.n_heads * head_dim)?,
        })
    }

    /// Of copy `i`.
    pub(super) fn projection(&self, i: usize) -> Projection<'_> {
        Projection {
            weights: &self.matrices[i],
            x: &self.x,
            vectors: &self.vectors,
            eps: 1e-6,
            place: &self.place,
            q: &self.qs[i],
            cache: &self.cache,
        }
    }
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
        let operands = Operands::new(gpu, copies, model, dtype)?;
        Ok(Box::new(move |pass, i| kernel.dispatch(pass, &operands.projection(i))))
    })
}
