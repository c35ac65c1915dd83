//! Rows to f16 at the widths of a layer's inputs.

use qwgpu_runtime::{
    Gpu,
    kernels::to_f16::{Operand, ToF16},
};

use super::{BenchCase, data, shapes};

pub(super) fn cases(gpu: &Gpu) -> Vec<BenchCase> {
    let mut cases = Vec::new();
    for model in shapes::models(gpu) {
        for n_tokens in [64, 512] {
            cases.extend([model.d_model, model.d_ff].map(|cols| case(model.name, n_tokens, cols)));
        }
    }
    cases
}

fn case(model: &str, n_tokens: usize, cols: usize) -> BenchCase {
    let n = n_tokens * cols;
    let name = format!("{model} [{n_tokens}, {cols}]");
    BenchCase::new("to_f16", name, (6 * n + 4 * n_tokens, 2 * n), move |gpu, copies| {
        let kernel = ToF16::new(gpu)?;
        let xs = data::inputs(gpu, copies, n_tokens, cols)?;
        let outs = (0..copies)
            .map(|_| Operand::new(gpu, n_tokens, cols))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Box::new(move |pass, i| kernel.dispatch(pass, &xs[i], n_tokens, &outs[i])))
    })
}
