//! The norm of a chunk, straight to f16.

use qwgpu_runtime::{
    Gpu,
    kernels::{norm_to_f16::NormToF16, to_f16::Operand},
};

use super::{BenchCase, data, shapes};

pub(super) fn cases(gpu: &Gpu) -> Vec<BenchCase> {
    let mut cases = Vec::new();
    for model in shapes::models(gpu) {
        cases.extend([64, 512].map(|n_tokens| case(model.name, n_tokens, model.d_model)));
    }
    cases
}

fn case(model: &str, n_tokens: usize, cols: usize) -> BenchCase {
    let n = n_tokens * cols;
    let name = format!("{model} [{n_tokens}, {cols}]");
    BenchCase::new("norm_to_f16", name, (6 * n + 4 * cols + 4 * n_tokens, 5 * n), move |gpu, copies| {
        let kernel = NormToF16::new(gpu)?;
        let xs = data::inputs(gpu, copies, n_tokens, cols)?;
        let weights = data::inputs(gpu, copies, 1, cols)?;
        let outs = (0..copies)
            .map(|_| Operand::new(gpu, n_tokens, cols))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Box::new(move |pass, i| kernel.dispatch(pass, &xs[i], &weights[i], 1e-6, &outs[i])))
    })
}
