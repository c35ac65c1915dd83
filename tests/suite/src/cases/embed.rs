//! Embedding gather: exact, since widening is.

use qwgpu_runtime::{DType, Elem, Gpu, Matrix, Pass, Tensor, kernels::Row, kernels::embed, narrow, widen};

use super::Checked;
use crate::{Axis, Case, Guarded, compare, fill, fill::Fill};

const AXES: &[Axis] = &[Axis::F16, Axis::Binding];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in DType::ALL {
        // one group of eight; a few; more than a workgroup of 64; enough rows for several parts
        for (vocab, d_model, n_tokens) in [(1, 8, 1), (5, 64, 3), (37, 520, 9), (100, 896, 15), (63, 1160, 2)] {
            let name = format!("{dtype} [{vocab}, {d_model}] of {n_tokens} tokens");
            cases.push(
                Case::new("embed", name, move |gpu| check(gpu, dtype, vocab, d_model, n_tokens))
                    .over(AXES)
                    .quick(true),
            );
        }
    }
    cases
}

fn check(gpu: &Gpu, dtype: DType, vocab: usize, d_model: usize, n_tokens: usize) -> Checked {
    let stored = widen(dtype, &narrow(dtype, &fill::values(Fill::Outlier, 1, vocab, d_model)));
    let weights = Matrix::from_f32(gpu, "weights", vocab, d_model, dtype, &stored)?;
    // first and last row always, then any
    let token = |t: usize| {
        [0, vocab as u32 - 1]
            .get(t)
            .copied()
            .unwrap_or_else(|| fill::hash(2, t as u64) % vocab as u32)
    };
    let tokens: Vec<u32> = (0..n_tokens).map(token).collect();
    let rows: Vec<Row> = tokens
        .iter()
        .map(|&token| Row {
            token,
            slot: 7,
            pos: 9,
            rope_pos: 11,
        })
        .collect();
    let rows = Tensor::from_u32(
        gpu,
        "rows",
        n_tokens,
        4,
        rows.iter()
            .flat_map(|r| [r.token, r.slot, r.pos, r.rope_pos])
            .collect::<Vec<_>>()
            .as_slice(),
    )?;
    let out = Guarded::new(gpu, n_tokens, d_model, Elem::F32)?;
    let kernel = embed::Embed::new(gpu, &[dtype])?;
    let mut pass = Pass::new(gpu);
    kernel.dispatch(&mut pass, &weights, &rows, out.out());
    pass.submit();
    compare::exact("out", d_model, &out.read_f32(gpu)?, &embed::reference(&stored, d_model, &tokens))
}
