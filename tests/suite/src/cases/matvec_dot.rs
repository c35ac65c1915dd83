//! Integer products: both quantised types, every form, sizes around every step of rows and columns, epilogues, split matrices; and the
//! bytes that they take.

use qwgpu_runtime::{
    BLOCK, DType, Elem, Gpu, Matrix, Pass, Tensor,
    kernels::{
        matmul::Product,
        matvec_dot::{self, MatvecDot},
        quantize::{self, Bytes, Quantize},
    },
    narrow, stored,
};

use super::Checked;
use crate::{
    Axis, Case, Failure, Guarded, Mode,
    compare::{self, EPS32, Expected, TINY},
    fill,
    fill::Fill,
    padded,
};

/// Invocations and rows of a workgroup.
const FORMS: [(u32, u32); 9] = [(128, 2), (32, 4), (128, 1), (32, 1), (64, 4), (128, 4), (64, 1), (64, 2), (32, 2)];
/// Around the rows of a workgroup, and primes.
const ROWS: [usize; 9] = [13, 1, 4, 67, 3, 5, 8, 7, 9];
/// Around the 1024, 2048 and 4096 columns of a step.
const COLS: [usize; 8] = [1088, 64, 960, 1024, 4160, 448, 4032, 2112];

/// One product.
#[derive(Clone, Copy, Debug)]
struct Shape {
    dtype: DType,
    form: (u32, u32),
    rows: usize,
    cols: usize,
    epilogue: usize,
    x: Fill,
}

impl Shape {
    fn case(self, quick: bool) -> Case {
        let Self { dtype, rows, cols, x, .. } = self;
        let (workgroup, n_rows) = self.form;
        let name = format!(
            "{dtype} [{rows}, {cols}], workgroup {workgroup} of {n_rows} rows, epilogue {}, x {x}",
            self.epilogue
        );
        let split = dtype.element_bytes(rows * cols) as u64 > Mode::SMALL_BINDING;
        let axes: &[Axis] = if split {
            &[Axis::Subgroup, Axis::Binding]
        } else {
            &[Axis::Subgroup]
        };
        Case::new("matvec_dot", name, move |gpu| check(gpu, self)).over(axes).quick(quick)
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in [DType::Q8, DType::Q4] {
        for (f, form) in FORMS.into_iter().enumerate() {
            let shape = |rows, cols, epilogue, x| Shape {
                dtype,
                form,
                rows,
                cols,
                epilogue,
                x,
            };
            for (i, rows) in ROWS.into_iter().enumerate() {
                for j in 0..2 {
                    let cols = COLS[(i + 3 * j + f) % COLS.len()];
                    cases.push(shape(rows, cols, i + j, Fill::Plain).case(f == 1 && j == 0));
                }
            }
            for (i, x) in Fill::ALL.into_iter().enumerate().skip(1) {
                cases.push(shape(11, 896, i, x).case(f == 1));
            }
            cases.push(shape(263, 576, 3, Fill::Plain).case(f == 1));
        }
    }
    // more rows than workgroups in one dimension of a dispatch; one mode is enough
    let folded = Shape {
        dtype: DType::Q8,
        form: (32, 1),
        rows: 65_539,
        cols: 64,
        epilogue: 0,
        x: Fill::Plain,
    };
    cases.push(folded.case(true).over(&[]));
    for (i, cols) in COLS.into_iter().enumerate() {
        for (j, x) in Fill::ALL.into_iter().enumerate() {
            let n_rows = [1, 3][(i + j) % 2];
            let case = Case::new("quantize", format!("[{n_rows}, {cols}], x {x}"), move |gpu| {
                check_bytes(gpu, [n_rows, cols], x)
            });
            cases.push(case.quick(i % 2 == 0));
        }
    }
    cases
}

fn bytes_of(gpu: &Gpu, pass: &mut Pass<'_>, x: &Tensor) -> Result<Bytes, Failure> {
    let bytes = Bytes::new(gpu, x.cols())?;
    Quantize::new(gpu)?.dispatch(pass, x, &bytes);
    Ok(bytes)
}

/// All rows of x, one behind the other.
pub(super) fn bytes_of_rows(gpu: &Gpu, pass: &mut Pass<'_>, x: &Tensor) -> Result<Bytes, Failure> {
    let bytes = Bytes::new(gpu, x.rows() * x.cols())?;
    Quantize::new(gpu)?.dispatch_rows(pass, x, &bytes);
    Ok(bytes)
}

fn check(gpu: &Gpu, s: Shape) -> Checked {
    let whole = Matrix::new(gpu, "weights", s.rows + 1, s.cols, s.dtype)?;
    whole.write_rows(gpu, s.rows, DType::F32, &narrow(DType::F32, &vec![f32::NAN; s.cols]))?;
    let weights = whole.narrow(s.rows);
    let values = fill::values(Fill::Plain, 5, s.rows, s.cols);
    weights.write_rows(gpu, 0, DType::F32, &narrow(DType::F32, &values))?;
    let values = stored(s.dtype, &values);
    let x = fill::values(s.x, 6, 1, s.cols);
    let bias = fill::values(Fill::Plain, 7, 1, s.rows);
    let before = fill::values(Fill::Plain, 8, 1, s.rows);
    let (has_bias, accumulate) = (s.epilogue % 2 == 1, s.epilogue / 2 % 2 == 1);
    let (x_tensor, bias_tensor) = (padded(gpu, 1, s.cols, &x)?, padded(gpu, 1, s.rows, &bias)?);
    let out = if accumulate {
        Guarded::holding(gpu, 1, s.rows, &before)?
    } else {
        Guarded::new(gpu, 1, s.rows, Elem::F32)?
    };
    let mut pass = Pass::new(gpu);
    let bytes = bytes_of(gpu, &mut pass, &x_tensor)?;
    let product = Product {
        weights: &weights,
        x: &x_tensor,
        bias: has_bias.then_some(&bias_tensor),
        accumulate,
        out: out.out(),
        operand: None,
        in_operand: false,
        in_bytes: false,
        bytes: None,
    };
    MatvecDot::new(gpu, s.dtype, s.form.0, s.form.1)?.dispatch(&mut pass, &product, &bytes);
    pass.submit();
    let blocks = quantize::reference(&x);
    let expected = values.chunks_exact(s.cols).enumerate().map(|(r, row)| {
        let Sum {
            mut value,
            mut magnitude,
            doubt,
        } = Sum::of(row, &blocks);
        for (added, value_at) in [(has_bias, bias[r]), (accumulate, before[r])] {
            if added {
                value += f64::from(value_at);
                magnitude += f64::from(value_at).abs();
            }
        }
        Expected {
            value,
            bound: compare::sum_bound(blocks.len(), magnitude) + doubt,
        }
    });
    compare::elements("out", s.rows, &out.read_f32(gpu)?, expected)
}

/// A product with bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sum {
    pub(super) value: f64,
    /// What rounding is relative to.
    pub(super) magnitude: f64,
    /// How far ties in the quantisation may take it.
    pub(super) doubt: f64,
}

impl Sum {
    pub(super) fn of(row: &[f32], blocks: &[quantize::Block]) -> Self {
        let (value, doubt) = matvec_dot::reference(row, blocks);
        let magnitude = row.chunks_exact(BLOCK).zip(blocks).map(|(row, block)| magnitude(row, block)).sum();
        Self { value, magnitude, doubt }
    }
}

/// What rounding is relative to in one block: q4 adds integers up to 15 and takes up to 16 times the sum of the bytes out again, and
/// the largest weight is 6 steps from 0 at least.
fn magnitude(row: &[f32], block: &quantize::Block) -> f64 {
    let largest = row.iter().fold(0.0, |m: f64, &w| m.max(f64::from(w).abs()));
    let bytes: f64 = block.q.iter().map(|&q| f64::from(q).abs()).sum();
    block.d * largest * bytes * (15.0 + 16.0) / 6.0
}

fn check_bytes(gpu: &Gpu, [n_rows, cols]: [usize; 2], x: Fill) -> Checked {
    let x = fill::values(x, 6, n_rows, cols);
    let x_tensor = followed(gpu, n_rows, cols, &x)?;
    let bytes = Bytes::new(gpu, n_rows * cols + BLOCK)?;
    let mut pass = Pass::new(gpu);
    let kernel = Quantize::new(gpu)?;
    if n_rows == 1 {
        kernel.dispatch(&mut pass, &x_tensor, &bytes);
    } else {
        kernel.dispatch_rows(&mut pass, &x_tensor, &bytes);
    }
    pass.submit();
    compare_bytes(gpu, &bytes, &quantize::reference(&x), [8.0 * EPS32, TINY])
}

/// x with a row of numbers behind it: bytes made of NaN may look like none.
pub(super) fn followed(gpu: &Gpu, n_rows: usize, cols: usize, x: &[f32]) -> Result<Tensor, Failure> {
    let all = [x, &fill::values(Fill::Plain, 7, 1, cols)].concat();
    Ok(Tensor::from_f32(gpu, "x", n_rows + 1, cols, &all)?.narrow(n_rows))
}

/// Bytes are exact but where rounding in f32 may go either way; scales are off by no more than their part `relative` and `flushed`.
/// Behind the blocks there is room for one more, which stays zero.
pub(super) fn compare_bytes(gpu: &Gpu, bytes: &Bytes, blocks: &[quantize::Block], [relative, flushed]: [f64; 2]) -> Checked {
    let (words, scales) = bytes.read(gpu)?;
    let found: Vec<i8> = words.iter().flat_map(|word| word.to_le_bytes()).map(u8::cast_signed).collect();
    let n = blocks.len();
    let mut outcome = compare::exact("bytes behind the last block", BLOCK, &found[n * BLOCK..], &[0; BLOCK])?;
    outcome = outcome.and(compare::exact("scales behind the last block", 2, &scales[2 * n..], &[0.0; 2])?);
    for (b, block) in blocks.iter().enumerate() {
        let mut q = found[b * BLOCK..][..BLOCK].to_vec();
        let sum: i32 = q.iter().copied().map(i32::from).sum();
        for &k in &block.ties {
            if (i32::from(q[k]) - i32::from(block.q[k])).abs() == 1 {
                q[k] = block.q[k];
            }
        }
        outcome = outcome.and(compare::exact(&format!("bytes of block {b}"), BLOCK, &q, &block.q)?);
        let bound = |value: f64| relative * value.abs() + flushed;
        let summed = block.d * f64::from(sum);
        let expected = [block.d, summed].map(|value| Expected {
            value,
            bound: bound(value),
        });
        outcome = outcome.and(compare::elements("scales", 2, &scales[2 * b..][..2], expected)?);
    }
    Ok(outcome)
}
