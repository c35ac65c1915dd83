//! SwiGLU's middle for one token and for a chunk.

use qwgpu_runtime::{Gpu, kernels::silu_mul::SiluMul};

use super::{BenchCase, data, shapes};

pub(super) fn cases(gpu: &Gpu) -> Vec<BenchCase> {
    let mut cases = Vec::new();
    for model in shapes::models(gpu) {
        cases.extend(shapes::token_counts(gpu).map(|n_tokens| case(model.name, n_tokens, model.d_ff)));
    }
    cases
}

fn case(model: &str, n_tokens: usize, cols: usize) -> BenchCase {
    let n = n_tokens * cols;
    let name = format!("{model} [{n_tokens}, {cols}]");
    BenchCase::new("silu_mul", name, (12 * n, 5 * n), move |gpu, copies| {
        let kernel = SiluMul::new(gpu)?;
        let gate_ups = data::inputs(gpu, copies, n_tokens, 2 * cols)?;
        let outs = data::outputs(gpu, copies, n_tokens, cols)?;
        Ok(Box::new(move |pass, i| kernel.dispatch(pass, &gate_ups[i], &outs[i])))
    })
}
