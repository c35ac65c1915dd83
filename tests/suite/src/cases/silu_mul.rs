//! SwiGLU's middle, with gates far beyond the range of exp.

use qwgpu_runtime::{Elem, Gpu, Pass, kernels::silu_mul};

use super::{Checked, models::MODELS};
use crate::{
    Case, Guarded,
    compare::{self, Expected, TINY},
    fill,
    fill::Fill,
    padded,
};

/// Around the 256 columns of a workgroup.
const D_FF: [usize; 11] = [260, 4, 252, 8, 256, 508, 64, 512, 516, 1028, 188];
const TOKENS: [usize; 4] = [3, 1, 2, 65];
/// Largest gates.
const SCALES: [f32; 5] = [1.0, 30.0, 90.0, 1e3, 1e30];

/// One product.
#[derive(Clone, Copy, Debug)]
struct Shape {
    d_ff: usize,
    n_tokens: usize,
    gate: Fill,
    up: Fill,
    /// What gates are multiplied by.
    scale: f32,
}

impl Shape {
    fn case(self) -> Case {
        let Self {
            d_ff,
            n_tokens,
            gate,
            up,
            scale,
        } = self;
        let name = format!("[{n_tokens}, {d_ff}], gate {gate} times {scale:e}, up {up}");
        Case::new("silu_mul", name, move |gpu| check(gpu, self))
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let plain = |d_ff, n_tokens, scale| Shape {
        d_ff,
        n_tokens,
        gate: Fill::Plain,
        up: Fill::Plain,
        scale,
    };
    for (i, d_ff) in D_FF.into_iter().enumerate() {
        for (j, n_tokens) in TOKENS.into_iter().enumerate() {
            for (k, scale) in SCALES.into_iter().enumerate() {
                cases.push(plain(d_ff, n_tokens, scale).case().quick((i + j + k) % 3 == 0));
            }
        }
    }
    for fill in Fill::ALL.into_iter().filter(|&fill| fill != Fill::Plain) {
        for n_tokens in [1, 5] {
            let shape = plain(300, n_tokens, 1.0);
            cases.push(Shape { gate: fill, ..shape }.case().quick(true));
            cases.push(Shape { up: fill, ..shape }.case().quick(true));
        }
    }
    for (i, d_ff) in MODELS.iter().flat_map(|model| model.d_ff).enumerate() {
        for n_tokens in [1, 7] {
            cases.push(plain(*d_ff, n_tokens, SCALES[i % SCALES.len()]).case());
        }
    }
    cases
}

fn check(gpu: &Gpu, s: Shape) -> Checked {
    let mut gates = fill::values(s.gate, 9, s.n_tokens, s.d_ff);
    gates.iter_mut().for_each(|gate| *gate *= s.scale);
    gates[0] = 0.0;
    let ups = fill::values(s.up, 10, s.n_tokens, s.d_ff);
    let rows = gates.chunks_exact(s.d_ff).zip(ups.chunks_exact(s.d_ff));
    let gate_up: Vec<f32> = rows.flat_map(|(gate, up)| gate.iter().chain(up)).copied().collect();
    let input = padded(gpu, s.n_tokens, 2 * s.d_ff, &gate_up)?;
    let out = Guarded::new(gpu, s.n_tokens, s.d_ff, Elem::F32)?;
    let kernel = silu_mul::SiluMul::new(gpu)?;
    let mut pass = Pass::new(gpu);
    kernel.dispatch(&mut pass, &input, out.out());
    pass.submit();
    let expected = gates.iter().zip(&ups).map(|(&gate, &up)| expected(gate, up));
    compare::elements("out", s.d_ff, &out.read_f32(gpu)?, expected)
}

/// One output, and what f32 explains of its error.
pub(super) fn expected(gate: f32, up: f32) -> Expected {
    let value = silu_mul::reference(gate, up);
    let relative = compare::exp_error(f64::from(gate).clamp(-80.0, 80.0)) + compare::sum_bound(2, 1.0);
    let product = (f64::from(gate) * f64::from(up)).abs();
    // the kernel stops at e^-80, where the definition goes on to zero
    let tail = product * (-80f64).exp();
    let flushes = gate.abs() < f32::MIN_POSITIVE || up.abs() < f32::MIN_POSITIVE;
    let flushed = if flushes { product } else { TINY * f64::from(up).abs() };
    Expected {
        value,
        bound: relative * value.abs() + 1.001 * tail + flushed + TINY,
    }
}
