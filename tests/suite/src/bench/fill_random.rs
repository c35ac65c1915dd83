//! Random weights: a whole head, which no cache holds.

use qwgpu_runtime::{DType, Gpu, kernels::fill_random::FillRandom};

use super::{BenchCase, data, shapes};

pub(super) fn cases(gpu: &Gpu) -> Vec<BenchCase> {
    let model = *shapes::models(gpu).last().expect("there are models");
    let rows = if gpu.caps().cpu { 16_384 } else { 65_536 };
    DType::ALL.map(|dtype| case(model.name, rows, model.d_model, dtype)).into()
}

fn case(model: &str, rows: usize, cols: usize, dtype: DType) -> BenchCase {
    let name = format!("{model} {dtype} [{rows}, {cols}]");
    BenchCase::new("fill_random", name, (dtype.row_bytes(rows * cols), 0), move |gpu, copies| {
        let kernel = FillRandom::new(gpu)?;
        let matrices = data::weights(gpu, copies, rows, cols, dtype)?;
        Ok(Box::new(move |pass, i| kernel.dispatch(pass, &matrices[i], 1, 0.03)))
    })
}
