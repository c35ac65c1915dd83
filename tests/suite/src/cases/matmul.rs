//! Matrix products: mat-vec and tiled, every weight type, sizes around every tile edge, epilogues, and split matrices.

use qwgpu_runtime::{
    DType, Elem, Gpu, Matrix, Pass, Tensor,
    kernels::matmul::{self, Matmul, Product},
    narrow, widen,
};

use super::Checked;
use crate::{
    Axis, Case, Guarded,
    compare::{self, Expected},
    fill,
    fill::Fill,
    padded,
};

const AXES: &[Axis] = &[Axis::Subgroup, Axis::F16];
const TOKENS: [usize; 13] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 63, 64, 65, 130];
const COLS: [usize; 10] = [8, 24, 32, 40, 256, 264, 512, 520, 896, 1160];
const ROWS: [usize; 9] = [1, 2, 3, 5, 63, 64, 65, 127, 130];

#[derive(Clone, Copy, Debug)]
struct Shape {
    dtype: DType,
    n_tokens: usize,
    cols: usize,
    rows: usize,
    bias: bool,
    accumulate: bool,
    tiled: bool,
    fill: Fill,
}

impl Shape {
    fn case(self) -> Case {
        let Self {
            dtype,
            n_tokens,
            cols,
            rows,
            ..
        } = self;
        let epilogue = format!(
            "{}{}",
            if self.bias { " bias" } else { "" },
            if self.accumulate { " accumulate" } else { "" }
        );
        let kernel = if self.tiled { "tiled " } else { "" };
        let name = format!("{kernel}{dtype} [{rows}, {cols}] x {n_tokens}{epilogue}, {}", self.fill);
        let stem = if self.tiled || n_tokens > 8 { "matmul" } else { "matvec" };
        Case::new(stem, name, move |gpu| check(gpu, self))
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut n = 0;
    for (d, dtype) in DType::ALL.into_iter().enumerate() {
        for (i, n_tokens) in TOKENS.into_iter().enumerate() {
            // a walk over the sizes that meets each of them several times; epilogues take turns
            for j in 0..4 {
                let (cols, rows) = (COLS[(i + 3 * j + d) % COLS.len()], ROWS[(2 * i + 5 * j + 3 * d) % ROWS.len()]);
                let (bias, accumulate) = (n % 2 == 1, n / 2 % 2 == 1);
                n += 1;
                let shape = Shape {
                    dtype,
                    n_tokens,
                    cols,
                    rows,
                    bias,
                    accumulate,
                    tiled: false,
                    fill: Fill::Plain,
                };
                cases.push(shape.case().over(AXES).quick(true));
                if n_tokens <= 8 && j == 0 {
                    cases.push(Shape { tiled: true, ..shape }.case().over(AXES).quick(true));
                }
            }
        }
        for n_tokens in [1, 4, 9] {
            for fill in Fill::ALL {
                let shape = Shape {
                    dtype,
                    n_tokens,
                    cols: 896,
                    rows: 66,
                    bias: true,
                    accumulate: false,
                    tiled: false,
                    fill,
                };
                cases.push(shape.case());
            }
        }
        for (n_tokens, rows) in [(1, 127), (3, 130), (8, 65), (12, 130)] {
            let shape = Shape {
                dtype,
                n_tokens,
                cols: 1160,
                rows,
                bias: true,
                accumulate: true,
                tiled: false,
                fill: Fill::Plain,
            };
            cases.push(shape.case().over(&[Axis::Binding]).quick(true));
        }
    }
    cases
}

fn check(gpu: &Gpu, s: Shape) -> Checked {
    let stored = widen(s.dtype, &narrow(s.dtype, &fill::values(Fill::Plain, 5, s.rows, s.cols)));
    let x = fill::values(s.fill, 6, s.n_tokens, s.cols);
    let bias = fill::values(Fill::Plain, 7, 1, s.rows);
    let before = fill::values(Fill::Plain, 8, s.n_tokens, s.rows);
    let weights = Matrix::from_f32(gpu, "weights", s.rows, s.cols, s.dtype, &stored)?;
    let x_tensor = padded(gpu, s.n_tokens, s.cols, &x)?;
    let bias_tensor = Tensor::from_f32(gpu, "bias", 1, s.rows, &bias)?;
    let out = if s.accumulate {
        Guarded::holding(gpu, s.n_tokens, s.rows, &before)?
    } else {
        Guarded::new(gpu, s.n_tokens, s.rows, Elem::F32)?
    };
    let kernel = Matmul::new(gpu, &[s.dtype])?;
    let mut pass = Pass::new(gpu);
    let product = Product {
        weights: &weights,
        x: &x_tensor,
        bias: s.bias.then_some(&bias_tensor),
        accumulate: s.accumulate,
        out: out.out(),
    };
    if s.tiled {
        kernel.dispatch_tiled(&mut pass, &product);
    } else {
        kernel.dispatch(&mut pass, &product);
    }
    pass.submit();
    let expected = (0..s.n_tokens * s.rows).map(|i| {
        let (t, r) = (i / s.rows, i % s.rows);
        let (w, x) = (&stored[r * s.cols..][..s.cols], &x[t * s.cols..][..s.cols]);
        let mut value = matmul::reference(w, x);
        let mut magnitude: f64 = w.iter().zip(x).map(|(&w, &x)| (f64::from(w) * f64::from(x)).abs()).sum();
        for (_, term) in [(s.bias, bias[r]), (s.accumulate, before[i])].into_iter().filter(|(on, _)| *on) {
            value += f64::from(term);
            magnitude += f64::from(term).abs();
        }
        Expected {
            value,
            bound: compare::sum_bound(s.cols, magnitude),
        }
    });
    compare::elements("out", s.rows, &out.read_f32(gpu)?, expected)
}
