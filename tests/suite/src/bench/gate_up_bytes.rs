//! The first half of one token's feed-forward from bytes to bytes, on every model in both quantised types.

use qwgpu_runtime::{
    DType, Gpu, Pass,
    kernels::{
        gate_up_bytes::GateUpBytes,
        has_teams,
        quantize::{Bytes, Quantize},
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
        .flat_map(|model| [DType::Q8, DType::Q4].map(|dtype| case(gpu, model, dtype)))
        .collect()
}

fn case(gpu: &Gpu, model: Shape, dtype: DType) -> BenchCase {
    let (d_model, d_ff) = (model.d_model, shapes::cut(gpu, model.d_ff));
    let name = format!("{} gate_up {dtype} [{}, {d_model}]", model.name, 2 * d_ff);
    // x and the result are a byte an element, and eight for each block
    let bytes = 2 * d_ff * dtype.row_bytes(d_model) + (d_model + d_ff) * 5 / 4;
    BenchCase::new("gate_up_bytes", name, (bytes, 4 * d_ff * d_model), move |gpu, copies| {
        let kernel = GateUpBytes::new(gpu, &[dtype])?;
        let matrices = data::weights(gpu, copies, 2 * d_ff, d_model, dtype)?;
        let x = data::inputs(gpu, 1, 1, d_model)?.remove(0);
        let (bytes, hidden) = (Bytes::new(gpu, d_model)?, Bytes::new(gpu, d_ff)?);
        let mut pass = Pass::new(gpu);
        Quantize::new(gpu)?.dispatch(&mut pass, &x, &bytes);
        pass.submit();
        Ok(Box::new(move |pass, i| kernel.dispatch(pass, &matrices[i], &bytes, &hidden)))
    })
}
