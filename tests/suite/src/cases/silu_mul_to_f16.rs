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

/// One group of columns beyond each pair of groups that an invocation keeps.
const BEYOND_PAIRS: [usize; 6] = [8200, 12296, 16392, 20488, 24584, 28680];
/// Widths, and how far from a row's end its largest value is: with the sixteenth invocation alone, in the last pair, and in each place of the
/// groups behind all pairs.
const LARGEST_AT: [(usize, usize); 11] = [
    (896, 775),
    (28680, 3),
    (32776, 0),
    (32776, 1),
    (32776, 2),
    (32776, 3),
    (32776, 7),
    (36872, 0),
    (36872, 10),
    (36872, 4090),
    (36872, 2049),
];
const N_TOKENS: [usize; 3] = [3, 1, 17];
/// Largest gates.
const SCALES: [f32; 5] = [1.0, 30.0, 90.0, 1e3, 1e30];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (i, d_ff) in COLS.into_iter().chain(BEYOND_PAIRS).enumerate() {
        for (j, (gate, up)) in Fill::ALL
            .into_iter()
            .flat_map(|fill| [(fill, Fill::Plain), (Fill::Plain, fill)])
            .skip(1)
            .enumerate()
        {
            let n_tokens = N_TOKENS[(i + j) % N_TOKENS.len()];
            let scale = SCALES[(2 * i + j) % SCALES.len()];
            let name = format!("[{n_tokens}, {d_ff}], gate {gate} times {scale:e}, up {up}");
            let case = Case::new("silu_mul_to_f16", name, move |gpu| {
                check(gpu, [n_tokens, d_ff], [gate, up], scale, None)
            });
            cases.push(case.quick((i + j) % 3 == 0));
        }
    }
    cases.extend(LARGEST_AT.map(|(d_ff, from_end)| {
        let name = format!("[2, {d_ff}], largest {from_end} from the end");
        let plain = [Fill::Plain; 2];
        let case = Case::new("silu_mul_to_f16", name, move |gpu| {
            check(gpu, [2, d_ff], plain, 1.0, Some(from_end))
        });
        case.quick(true)
    }));
    cases
}

fn check(gpu: &Gpu, [n_tokens, d_ff]: [usize; 2], [gate, up]: [Fill; 2], scale: f32, largest_from_end: Option<usize>) -> Checked {
    let mut gates = fill::values(gate, 9, n_tokens, d_ff);
    gates.iter_mut().for_each(|gate| *gate *= scale);
    let mut ups = fill::values(up, 10, n_tokens, d_ff);
    if let Some(from_end) = largest_from_end {
        for t in 0..n_tokens {
            let place = (t + 1) * d_ff - 1 - from_end;
            (gates[place], ups[place]) = (5.0, 1e4);
        }
    }
    let rows = gates.chunks_exact(d_ff).zip(ups.chunks_exact(d_ff));
    let gate_up: Vec<f32> = rows.clone().flat_map(|(gate, up)| gate.iter().chain(up)).copied().collect();
    let operand = Operand::new(gpu, n_tokens, d_ff)?;
    let mut pass = Pass::new(gpu);
    SiluMulToF16::new(gpu)?.dispatch(&mut pass, &padded(gpu, n_tokens, 2 * d_ff, &gate_up)?, &operand);
    pass.submit();
    let row = |(gates, ups): (&[f32], &[f32])| gates.iter().zip(ups).map(|(&gate, &up)| silu_mul::expected(gate, up)).collect();
    compare_rows(gpu, &operand, &rows.map(row).collect::<Vec<_>>())
}
