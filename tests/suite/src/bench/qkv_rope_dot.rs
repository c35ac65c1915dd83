//! One token's q, k and v with integer dot products, on every model in both quantised types, in every form.

use qwgpu_runtime::{
    DType, Gpu, Pass,
    kernels::{norm_quantize::NormQuantize, qkv_rope_dot::QkvRopeDot, quantize::Bytes, share::Share},
};

use super::{
    BenchCase, data,
    norm_qkv_rope::Operands,
    rope::name_of,
    shapes::{self, Shape},
};

/// Invocations and rows of a workgroup.
const FORMS: [(u32, u32); 6] = [(32, 2), (32, 4), (64, 2), (64, 4), (128, 2), (128, 4)];

pub(super) fn cases(gpu: &Gpu) -> Vec<BenchCase> {
    let mut cases = Vec::new();
    for model in shapes::models(gpu) {
        for dtype in [DType::Q8, DType::Q4] {
            cases.extend(FORMS.map(|(workgroup, rows)| case(gpu, model, dtype, Share { workgroup, rows })));
        }
    }
    cases
}

fn case(gpu: &Gpu, model: Shape, dtype: DType, share: Share) -> BenchCase {
    let kv = shapes::kv(gpu);
    let Shape {
        d_model,
        n_heads,
        n_kv_heads,
        head_dim,
        ..
    } = model;
    let (rows, q_cols, kv_cols) = (model.qkv(), n_heads * head_dim, 2 * n_kv_heads * head_dim);
    let name = format!(
        "{} qkv {dtype} [{rows}, {d_model}], {} cache, workgroup {} of {} rows",
        model.name,
        name_of(kv),
        share.workgroup,
        share.rows
    );
    // x is a byte an element, and eight for each block
    let bytes = rows * dtype.row_bytes(d_model) + d_model + d_model / 4 + 4 * (rows + q_cols) + kv.bytes() * kv_cols;
    BenchCase::new("qkv_rope_dot", name, (bytes, 2 * rows * d_model), move |gpu, copies| {
        let kernel = QkvRopeDot::with_share(gpu, dtype, share, kv, head_dim)?;
        let operands = Operands::new(gpu, copies, model, dtype)?;
        let norm = data::inputs(gpu, 1, 1, d_model)?.remove(0);
        let bytes = Bytes::new(gpu, d_model)?;
        let mut pass = Pass::new(gpu);
        NormQuantize::new(gpu)?.dispatch(&mut pass, &operands.x, &norm, 1e-6, &bytes);
        pass.submit();
        Ok(Box::new(move |pass, i| kernel.dispatch(pass, &operands.projection(i), &bytes)))
    })
}
