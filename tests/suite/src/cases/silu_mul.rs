//! SwiGLU's middle, with gates far beyond the range of exp.

use qwgpu_runtime::{Elem, Gpu, Pass, kernels::silu_mul};

use super::Checked;
use crate::{
    Case, Guarded,
    compare::{self, Expected, TINY},
    fill,
    fill::Fill,
    padded,
};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (d_ff, n_tokens) in [(4, 1), (252, 3), (256, 2), (260, 1), (4864, 2)] {
        for scale in [1.0, 30.0, 1e3, 1e30] {
            let name = format!("[{n_tokens}, {d_ff}], gates up to {scale:e}");
            cases.push(Case::new("silu_mul", name, move |gpu| check(gpu, d_ff, n_tokens, scale)).quick(true));
        }
    }
    cases
}

fn check(gpu: &Gpu, d_ff: usize, n_tokens: usize, scale: f32) -> Checked {
    let mut gate_up = fill::values(Fill::Plain, 9, n_tokens, 2 * d_ff);
    for row in gate_up.chunks_exact_mut(2 * d_ff) {
        row[..d_ff].iter_mut().for_each(|gate| *gate *= scale);
        row[0] = 0.0;
    }
    let input = padded(gpu, n_tokens, 2 * d_ff, &gate_up)?;
    let out = Guarded::new(gpu, n_tokens, d_ff, Elem::F32)?;
    let kernel = silu_mul::SiluMul::new(gpu)?;
    let mut pass = Pass::new(gpu);
    kernel.dispatch(&mut pass, &input, out.out());
    pass.submit();
    let pairs = gate_up.chunks_exact(2 * d_ff).flat_map(|row| row[..d_ff].iter().zip(&row[d_ff..]));
    let expected = pairs.map(|(&gate, &up)| {
        let value = silu_mul::reference(gate, up);
        let relative = compare::exp_error(f64::from(gate).clamp(-80.0, 80.0)) + compare::sum_bound(2, 1.0);
        // the kernel stops at e^-80, where the definition goes on to zero
        let tail = (f64::from(gate) * f64::from(up)).abs() * (-80f64).exp();
        Expected {
            value,
            bound: relative * value.abs() + 1.001 * tail + TINY,
        }
    });
    compare::elements("out", d_ff, &out.read_f32(gpu)?, expected)
}
