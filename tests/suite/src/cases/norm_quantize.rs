//! The norm straight to bytes, over widths around a workgroup's blocks.

use qwgpu_runtime::{
    BLOCK, Gpu, Pass,
    kernels::{
        norm_quantize::NormQuantize,
        quantize::{self, Bytes},
        rms_norm,
    },
};

use super::{
    Checked,
    matvec_dot::{compare_bytes, followed},
};
use crate::{
    Axis, Case,
    compare::{self, TINY},
    fill,
    fill::Fill,
};

/// Around the 8192 columns of a round and twice that, and the models' widths.
const COLS: [usize; 13] = [3584, 32, 4128, 8192, 8224, 64, 2048, 1056, 8160, 896, 4096, 12_320, 16_416];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (i, cols) in COLS.into_iter().enumerate() {
        for (x, norm) in Fill::ALL
            .into_iter()
            .flat_map(|fill| [(fill, Fill::Plain), (Fill::Plain, fill)])
            .skip(1)
        {
            let eps = [1e-6, 1e-5][i % 2];
            let name = format!("[1, {cols}], eps {eps:e}, x {x}, norm {norm}");
            let case = Case::new("norm_quantize", name, move |gpu| check(gpu, cols, eps, [x, norm]));
            cases.push(case.over(&[Axis::Subgroup]).quick(i < 3 || x == norm));
        }
    }
    cases
}

fn check(gpu: &Gpu, cols: usize, eps: f32, [x, norm]: [Fill; 2]) -> Checked {
    let x = fill::values(x, 3, 1, cols);
    let norm = fill::values(norm, 4, 1, cols);
    let bytes = Bytes::new(gpu, cols + BLOCK)?;
    let mut pass = Pass::new(gpu);
    let (x_tensor, norm_tensor) = (followed(gpu, 1, cols, &x)?, followed(gpu, 1, cols, &norm)?);
    NormQuantize::new(gpu)?.dispatch(&mut pass, &x_tensor, &norm_tensor, eps, &bytes);
    pass.submit();
    // the norm's factor, which is off by what the sum of the squares is, is the same in all: it moves scales and no byte
    let normed: Vec<f32> = rms_norm::reference(&x, &norm, eps).into_iter().map(|value| value as f32).collect();
    // a flushed x loses TINY times at most 1/sqrt(eps) and a weight, of which d is a 127th
    let flushed = 2e3 * TINY / 127.0;
    let outcome = compare_bytes(gpu, &bytes, &quantize::reference(&normed), [compare::sum_bound(cols, 1.0), flushed])?;
    let (_, scales) = bytes.read(gpu)?;
    Ok(outcome.and(compare::exact(
        "scales behind the bytes",
        scales.len(),
        &bytes.read_joined(gpu)?,
        &scales,
    )?))
}
