//! The norm straight to f16, at the widths of [`super::to_f16`].

use qwgpu_runtime::{
    Gpu, Pass,
    kernels::{norm_to_f16::NormToF16, to_f16::Operand},
};

use super::{
    Checked, rms_norm,
    to_f16::{COLS, compare_rows},
};
use crate::{Axis, Case, fill, fill::Fill, padded};

const N_TOKENS: [usize; 3] = [3, 1, 17];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (i, cols) in COLS.into_iter().enumerate() {
        for (j, (x, weight)) in Fill::ALL
            .into_iter()
            .flat_map(|fill| [(fill, Fill::Plain), (Fill::Plain, fill)])
            .skip(1)
            .enumerate()
        {
            let n_tokens = N_TOKENS[(i + j) % N_TOKENS.len()];
            let eps = [1e-6, 1e-5][i % 2];
            let name = format!("[{n_tokens}, {cols}], eps {eps:e}, x {x}, weight {weight}");
            let case = Case::new("norm_to_f16", name, move |gpu| check(gpu, [n_tokens, cols], eps, [x, weight]));
            cases.push(case.over(&[Axis::Subgroup]).quick((i + j) % 3 == 0));
        }
    }
    cases
}

fn check(gpu: &Gpu, [n_tokens, cols]: [usize; 2], eps: f32, [x, weight]: [Fill; 2]) -> Checked {
    let x = fill::values(x, 3, n_tokens, cols);
    let weight = fill::values(weight, 4, 1, cols);
    let operand = Operand::new(gpu, n_tokens, cols)?;
    let mut pass = Pass::new(gpu);
    let (x_tensor, weight_tensor) = (padded(gpu, n_tokens, cols, &x)?, padded(gpu, 1, cols, &weight)?);
    NormToF16::new(gpu)?.dispatch(&mut pass, &x_tensor, &weight_tensor, eps, &operand);
    pass.submit();
    let rows: Vec<_> = x.chunks_exact(cols).map(|row| rms_norm::expected(row, &weight, eps)).collect();
    compare_rows(gpu, &operand, &rows)
}
