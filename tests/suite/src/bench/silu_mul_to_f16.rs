//! SwiGLU's middle for a chunk, straight to f16.

use qwgpu_runtime::{
    Gpu,
    kernels::{silu_mul_to_f16::SiluMulToF16, to_f16::Operand},
};

use super::{BenchCase, data, shapes};

pub(super) fn cases(gpu: &Gpu) -> Vec<BenchCase> {
    let mut cases = Vec::new();
    for model in shapes::models(gpu) {
        cases.extend([64, 512].map(|n_tokens| case(model.name, n_tokens, model.d_ff)));
    }
    cases
}

fn case(model: &str, n_tokens: usize, cols: usize) -> BenchCase {
    let n = n_tokens * cols;
    let name = format!("{model} [{n_tokens}, {cols}]");
    BenchCase::new("silu_mul_to_f16", name, (10 * n + 4 * n_tokens, 6 * n), move |gpu, copies| {
        let kernel = SiluMulToF16::new(gpu)?;
        let gate_ups = data::inputs(gpu, copies, n_tokens, 2 * cols)?;
        let outs = (0..copies)
            .map(|_| Operand::new(gpu, n_tokens, cols))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Box::new(move |pass, i| kernel.dispatch(pass, &gate_ups[i], &outs[i])))
    })
}
