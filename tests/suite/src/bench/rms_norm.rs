//! The norm of one token and of a chunk.

use qwgpu_runtime::{Gpu, kernels::rms_norm::RmsNorm};

use super::{BenchCase, data, shapes};

pub(super) fn cases(gpu: &Gpu) -> Vec<BenchCase> {
    let mut cases = Vec::new();
    for model in shapes::models(gpu) {
        cases.extend(shapes::token_counts(gpu).map(|n_tokens| case(model.name, n_tokens, model.d_model)));
    }
    cases
}

fn case(model: &str, n_tokens: usize, cols: usize) -> BenchCase {
    let n = n_tokens * cols;
    let name = format!("{model} [{n_tokens}, {cols}]");
    BenchCase::new("rms_norm", name, (8 * n + 4 * cols, 4 * n), move |gpu, copies| {
        let kernel = RmsNorm::new(gpu)?;
        let xs = data::inputs(gpu, copies, n_tokens, cols)?;
        let weights = data::inputs(gpu, copies, 1, cols)?;
        let outs = data::outputs(gpu, copies, n_tokens, cols)?;
        Ok(Box::new(move |pass, i| {
            kernel.dispatch(pass, &xs[i], 0, &weights[i], 1e-6, &outs[i])
        }))
    })
}
