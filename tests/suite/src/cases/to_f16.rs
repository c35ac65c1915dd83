//! Rows to f16: scales exact, values within half a unit in the last place, whatever the row holds.

use half::f16;
use qwgpu_runtime::{
    Gpu, Pass,
    kernels::to_f16::{self, Operand, ToF16},
};

use super::Checked;
use crate::{
    Case, Failure,
    compare::{self, Expected},
    fill,
    fill::Fill,
    padded,
};

/// Around the 2048 columns that a workgroup takes at once, the 4096 or 32,768 that it keeps, and every model's widths.
pub(super) const COLS: [usize; 17] = [
    896, 8, 16, 64, 136, 1536, 2040, 2048, 2056, 3584, 4864, 8960, 18944, 4096, 4104, 32776, 29568,
];
const N_TOKENS: [usize; 3] = [3, 1, 17];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (i, cols) in COLS.into_iter().enumerate() {
        for (j, x) in Fill::ALL.into_iter().enumerate() {
            for (k, n_tokens) in N_TOKENS.into_iter().enumerate() {
                let name = format!("[{n_tokens}, {cols}] {x}");
                let case = Case::new("to_f16", name, move |gpu| check(gpu, n_tokens, cols, x));
                cases.push(case.quick(k == 0 && (i + j) % 3 == 0));
            }
        }
    }
    cases
}

fn check(gpu: &Gpu, n_tokens: usize, cols: usize, fill: Fill) -> Checked {
    let x = fill::values(fill, 11, n_tokens, cols);
    let x_tensor = padded(gpu, n_tokens, cols, &x)?;
    let operand = Operand::new(gpu, n_tokens, cols)?;
    let mut pass = Pass::new(gpu);
    ToF16::new(gpu)?.dispatch(&mut pass, &x_tensor, n_tokens, &operand);
    pass.submit();
    let (halves, scales) = operand.read(gpu, n_tokens, cols)?;
    let rows = x.chunks_exact(cols);
    let exact = rows.clone().map(|row| Expected {
        value: f64::from(to_f16::scale(row)),
        bound: 0.0,
    });
    compare::elements("scales", 1, &scales, exact)?;
    let found: Vec<f32> = halves.iter().map(|&bits| f16::from_bits(bits).to_f32()).collect();
    let expected = rows.flat_map(|row| to_f16::reference(row).into_iter().zip(row));
    let expected = expected.map(|(value, x)| {
        let value = f64::from(value);
        // below the normal range of f32 or f16 adapters may flush; pack2x16float may also round either way
        let flushed = x.abs() < f32::MIN_POSITIVE || value.abs() < 1.0 / 16384.0;
        let bound = if flushed {
            4.0 * value.abs() + 1.0 / 16_777_216.0
        } else {
            value.abs() / 1024.0
        };
        Expected { value, bound }
    });
    compare::elements("values", cols, &found, expected)
}

/// Rows that a kernel has made on the way, given each row before it goes to f16: scales as near as these are known, values within half
/// a unit in the last place more.
pub(super) fn compare_rows(gpu: &Gpu, operand: &Operand, rows: &[Vec<Expected>]) -> Checked {
    let cols = rows[0].len();
    let (halves, scales) = operand.read(gpu, rows.len(), cols)?;
    for (t, (row, &scale)) in rows.iter().zip(&scales).enumerate() {
        let largest = |off: f64| row.iter().fold(0.0, |max: f64, y| max.max(y.value.abs() + off * y.bound)) as f32;
        let range = [-1.0, 1.0].map(|off| to_f16::scale(&[largest(off)]));
        if !(range[0]..=range[1]).contains(&scale) || scale.to_bits() << 9 != 0 {
            return Err(Failure::new(format!("scale {scale:e} of row {t}, not in {range:?}")));
        }
    }
    let scaled = halves.chunks_exact(cols).zip(&scales);
    let found: Vec<f32> = scaled
        .flat_map(|(row, &scale)| row.iter().map(move |&bits| f16::from_bits(bits).to_f32() * scale))
        .collect();
    let expected = rows.iter().zip(&scales).flat_map(|(row, &scale)| {
        let scale = f64::from(scale);
        row.iter().map(move |&Expected { value, bound }| {
            // as in `check`
            let magnitude = value.abs() + bound;
            let flushed = value.abs() - bound < scale / 16384.0;
            let rounding = if flushed {
                4.0 * magnitude + scale / 16_777_216.0
            } else {
                magnitude / 1024.0
            };
            Expected {
                value,
                bound: bound + rounding,
            }
        })
    });
    compare::elements("values", cols, &found, expected)
}
