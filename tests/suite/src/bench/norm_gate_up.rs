//! The first half of one token's feed-forward, on every model in each type of weights.

use qwgpu_runtime::{DType, Gpu, kernels::norm_gate_up::NormGateUp};

use super::{
    BenchCase, data,
    shapes::{self, Shape},
};

pub(super) fn cases(gpu: &Gpu) -> Vec<BenchCase> {
    let models = shapes::models(gpu).into_iter();
    models.flat_map(|model| DType::ALL.map(|dtype| case(gpu, model, dtype))).collect()
}

fn case(gpu: &Gpu, model: Shape, dtype: DType) -> BenchCase {
    let (d_model, d_ff) = (model.d_model, shapes::cut(gpu, model.d_ff));
    let name = format!("{} gate_up {dtype} [{}, {d_model}]", model.name, 2 * d_ff);
    let bytes = 2 * d_ff * dtype.row_bytes(d_model) + 4 * (2 * d_model + d_ff);
    BenchCase::new("norm_gate_up", name, (bytes, 4 * d_ff * d_model), move |gpu, copies| {
        let kernel = NormGateUp::new(gpu, &[dtype])?;
        let matrices = data::weights(gpu, copies, 2 * d_ff, d_model, dtype)?;
        let [x, norm] = [(); 2].map(|()| data::inputs(gpu, 1, 1, d_model));
        let (x, norm) = (x?.remove(0), norm?.remove(0));
        let outs = data::outputs(gpu, copies, 1, d_ff)?;
        Ok(Box::new(move |pass, i| {
            kernel.dispatch(pass, &matrices[i], &x, &norm, 1e-6, &outs[i])
        }))
    })
}
