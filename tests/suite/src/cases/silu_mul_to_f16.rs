//! SwiGLU's middle straight to f16, at the widths of [`super::to_f16`], with gates far beyond the range of exp.

use qwgpu_runtime::{
    Gpu, Pass,
    kernels::{silu_mul_to_f16::SiluMulToF16, to_f16::Operand},
};

use super::{
    Checked, silu_mul,
    to_f16::{COLS, compare_rows},
};
use crate::{Case, fill, fill::Fill, padded};

const N_TOKENS: [usize; 3] = [3, 1, 17];
/// Largest gates.
const SCALES: [f32; 5] = [1.0, 30.0, 90.0, 1e3, 1e30];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (i, d_ff) in COLS.into_iter().enumerate() {
        for (j, (gate, up)) in Fill::ALL
            .into_iter()
            .flat_map(|fill| [(fill, Fill::Plain), (Fill::Plain, fill)])
            .skip(1)
            .enumerate()
        {
            let n_tokens = N_TOKENS[(i + j) % N_TOKENS.len()];
            let scale = SCALES[(2 * i + j) % SCALES.len()];
            let name = format!("[{n_tokens}, {d_ff}], gate {gate} times {scale:e}, up {up}");
            let case = Case::new("silu_mul_to_f16", name, move |gpu| check(gpu, [n_tokens, d_ff], [gate, up], scale));
            cases.push(case.quick((i + j) % 3 == 0));
        }
    }
    cases
}

fn check(gpu: &Gpu, [n_tokens, d_ff]: [usize; 2], [gate, up]: [Fill; 2], scale: f32) -> Checked {
    let mut gates = fill::values(gate, 9, n_tokens, d_ff);
    gates.iter_mut().for_each(|gate| *gate *= scale);
    let ups = fill::values(up, 10, n_tokens, d_ff);
    let rows = gates.chunks_exact(d_ff).zip(ups.chunks_exact(d_ff));
    let gate_up: Vec<f32> = rows.clone().flat_map(|(gate, up)| gate.iter().chain(up)).copied().collect();
    let operand = Operand::new(gpu, n_tokens, d_ff)?;
    let mut pass = Pass::new(gpu);
    SiluMulToF16::new(gpu)?.dispatch(&mut pass, &padded(gpu, n_tokens, 2 * d_ff, &gate_up)?, &operand);
    pass.submit();
    let row = |(gates, ups): (&[f32], &[f32])| gates.iter().zip(ups).map(|(&gate, &up)| silu_mul::expected(gate, up)).collect();
    compare_rows(gpu, &operand, &rows.map(row).collect::<Vec<_>>())
}
