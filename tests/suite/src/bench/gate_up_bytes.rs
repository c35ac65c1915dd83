//! The first half of one token's feed-forward with its result in bytes, on every model in both quantised types.

use qwgpu_runtime::{
    DType, Gpu,
    kernels::{
        gate_up_bytes::{GateUpBytes, Normed, Of},
        has_teams,
        quantize::Bytes,
    },
};

use super::{
    BenchCase, data,
    shapes::{self, Shape},
};

pub(super) fn cases(gpu: &Gpu) -> Vec<BenchCase> {
    if !has_teams(gpu.caps()) {
        return Vec::new();
    }
    let models = shapes::models(gpu).into_iter();
    models
        .filter(|model| model.d_model <= GateUpBytes::MOST_COLUMNS)
        .flat_map(|model| [DType::Q8, DType::Q4].map(|dtype| case(gpu, model, dtype)))
        .collect()
}

fn case(gpu: &Gpu, model: Shape, dtype: DType) -> BenchCase {
    let (d_model, d_ff) = (model.d_model, shapes::cut(gpu, model.d_ff));
    let name = format!("{} gate_up {dtype} [{}, {d_model}]", model.name, 2 * d_ff);
    // the result is a byte an element, and eight for each block
    let bytes = 2 * d_ff * dtype.row_bytes(d_model) + 8 * d_model + d_ff * 5 / 4;
    BenchCase::new("gate_up_bytes", name, (bytes, 4 * d_ff * d_model), move |gpu, copies| {
        let kernel = GateUpBytes::new(gpu, &[dtype], Of::Dense)?;
        let matrices = data::weights(gpu, copies, 2 * d_ff, d_model, dtype)?;
        let [x, norm] = [0, 1].map(|_| data::inputs(gpu, 1, 1, d_model));
        let (x, norm) = (x?.remove(0), norm?.remove(0));
        let hidden = Bytes::new(gpu, d_ff)?;
        Ok(Box::new(move |pass, i| {
            let (x, norm) = (&x, &norm);
            kernel.dispatch(pass, &matrices[i], Normed { x, norm, eps: 1e-6 }, &hidden);
        }))
    })
}
