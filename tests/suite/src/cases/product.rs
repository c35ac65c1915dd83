//! What the cases of both matrix products share: one product as data, and its check.

use std::borrow::Cow;

use qwgpu_runtime::{
    BLOCK, DType, Elem, Gpu, Matrix, Pass, Tensor,
    kernels::{
        fill_random::FillRandom,
        matmul::{self, Matmul, Product},
        matmul_coop,
        matvec::MAX_TOKENS,
        share::Share,
        to_f16::{self, Operand, ToF16},
    },
    narrow, stored, widen,
};

use super::{Checked, places::places};
use crate::{
    Axis, Case, Failure, Guarded, Mode,
    compare::{self, Expected},
    fill,
    fill::Fill,
    padded,
};

/// Outputs of a case that are compared.
const MAX_OUTPUTS: usize = 4096;
/// Products that a case's reference adds up: a hundredth of a second or two.
const MAX_PRODUCTS: usize = 1 << 23;
/// Rows of weights that are read back one by one.
const MAX_READS: usize = 64;

/// Who computes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kernel {
    /// The mat-vec, with so many invocations to a workgroup, which owns as many rows as it may.
    Matvec(u32),
    /// The mat-vec for one token, shared out like this.
    Step(Share),
    /// The tiled product, for however few tokens.
    Tiled,
    /// The product on matrix units, for however few tokens, with so many subgroups to each side of a tile.
    Coop(u32),
    /// What the host takes for so many tokens on this adapter.
    Chosen,
}

/// Where the weights come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The host.
    Host(Fill),
    /// `fill_random`: for more of them than the host can make in good time.
    Device,
}

/// One product.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) kernel: Kernel,
    pub(super) dtype: DType,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) n_tokens: usize,
    pub(super) bias: bool,
    pub(super) accumulate: bool,
    pub(super) weights: Source,
    pub(super) x: Fill,
}

impl Shape {
    /// Plain values and no epilogue; as many columns as the type allows next.
    pub(super) const fn new(kernel: Kernel, dtype: DType, [rows, cols, n_tokens]: [usize; 3]) -> Self {
        Self {
            kernel,
            dtype,
            rows,
            cols: cols.next_multiple_of(dtype.column_multiple()),
            n_tokens,
            bias: false,
            accumulate: false,
            weights: Source::Host(Fill::Plain),
            x: Fill::Plain,
        }
    }

    /// The same with one of the four combinations of bias and accumulation.
    pub(super) const fn epilogue(self, n: usize) -> Self {
        Self {
            bias: n % 2 == 1,
            accumulate: n / 2 % 2 == 1,
            ..self
        }
    }

    fn name(&self) -> String {
        let kernel = match self.kernel {
            Kernel::Matvec(workgroup) => format!("workgroup {workgroup}, "),
            Kernel::Step(share) => format!("workgroup {} of {} rows, ", share.workgroup, share.rows),
            Kernel::Tiled => String::new(),
            Kernel::Coop(side) => format!("{side} x {side} subgroups, "),
            Kernel::Chosen => "as chosen, ".into(),
        };
        let bias = if self.bias { " bias" } else { "" };
        let accumulate = if self.accumulate { " accumulate" } else { "" };
        let Self {
            dtype,
            rows,
            cols,
            n_tokens,
            ..
        } = self;
        let fills = match (self.weights, self.x) {
            (Source::Host(Fill::Plain), Fill::Plain) => String::new(),
            (Source::Host(weights), x) => format!(", weights {weights}, x {x}"),
            (Source::Device, _) => ", weights made on the device".into(),
        };
        format!("{kernel}{dtype} [{rows}, {cols}] x {n_tokens}{bias}{accumulate}{fills}")
    }

    const fn is_matvec(&self) -> bool {
        match self.kernel {
            Kernel::Matvec(_) | Kernel::Step(_) => true,
            Kernel::Tiled | Kernel::Coop(_) => false,
            Kernel::Chosen => self.n_tokens <= MAX_TOKENS,
        }
    }

    fn on_matrix_units(&self, gpu: &Gpu) -> bool {
        match self.kernel {
            Kernel::Coop(_) => true,
            Kernel::Chosen => self.n_tokens > MAX_TOKENS && !matmul_coop::grids(gpu.caps()).is_empty(),
            Kernel::Matvec(_) | Kernel::Step(_) | Kernel::Tiled => false,
        }
    }

    /// What decides the text that computes it; the way in which f16 weights are read is part of that, any other is not.
    const fn axes(&self, split: bool) -> &'static [Axis] {
        use Axis::{Binding, F16, Subgroup};
        if matches!(self.kernel, Kernel::Chosen) {
            return &[]; // the choice is what it is there for
        }
        match (self.is_matvec(), matches!(self.dtype, DType::F16), split) {
            (true, false, false) => &[Subgroup],
            (true, true, false) => &[Subgroup, F16],
            (true, false, true) => &[Subgroup, Binding],
            (true, true, true) => &[Subgroup, F16, Binding],
            (false, false, false) => &[],
            (false, true, false) => &[F16],
            (false, false, true) => &[Binding],
            (false, true, true) => &[F16, Binding],
        }
    }

    /// The case, in every mode that has another text for it.
    pub(super) fn case(self) -> Case {
        let stem = match self.kernel {
            Kernel::Coop(_) => "matmul_coop",
            _ if self.is_matvec() => "matvec",
            _ => "matmul",
        };
        let case = Case::new(stem, self.name(), move |gpu| check(gpu, &self)).over(self.axes(false));
        match self.kernel {
            Kernel::Coop(2) => case.with_coop(|caps| matmul_coop::grids(caps).iter().any(|grid| grid.side == 2)),
            Kernel::Coop(_) => case.with_coop(|caps| matmul_coop::grids(caps).iter().any(|grid| grid.side == 4)),
            _ => case,
        }
    }

    /// The case, also with a matrix that is split over several bindings.
    ///
    /// # Panics
    /// When the smallest binding would hold the matrix, or would not hold the rest.
    pub(super) fn split_case(self) -> Case {
        let bytes = |rows: usize, cols: usize, width: usize| (rows * cols * width) as u64;
        assert!(self.dtype.element_bytes(self.rows * self.cols) as u64 > Mode::SMALL_BINDING);
        let padded_tokens = self.n_tokens + 2;
        assert!(bytes(padded_tokens, self.cols.max(self.rows), 4) <= Mode::SMALL_BINDING);
        let mut case = self.case();
        case.name += ", splittable";
        case.over(self.axes(true))
    }
}

/// Weights on the device with NaN behind them, and the way to know them.
pub(super) struct Weights {
    pub(super) matrix: Matrix,
    host: Option<Vec<f32>>,
}

impl Weights {
    pub(super) fn new(gpu: &Gpu, s: &Shape) -> Result<Self, Failure> {
        let whole = Matrix::new(gpu, "weights", s.rows + 1, s.cols, s.dtype)?;
        Self::within(gpu, &whole, s.rows, s.weights)
    }

    /// The first `rows` rows of a matrix, and NaN in the others.
    pub(super) fn within(gpu: &Gpu, whole: &Matrix, rows: usize, source: Source) -> Result<Self, Failure> {
        let matrix = whole.narrow(rows);
        let (cols, dtype) = (whole.cols(), whole.dtype());
        let poison = vec![f32::NAN; (whole.rows() - rows) * cols];
        whole.write_rows(gpu, rows, DType::F32, &narrow(DType::F32, &poison))?;
        let host = match source {
            Source::Host(fill) => {
                let values = fill::values(fill, 5, rows, cols);
                if dtype.is_quantised() {
                    matrix.write_rows(gpu, 0, DType::F32, &narrow(DType::F32, &values))?;
                    Some(stored(dtype, &values))
                } else {
                    let bytes = narrow(dtype, &values);
                    matrix.write_rows(gpu, 0, dtype, &bytes)?;
                    Some(widen(dtype, &bytes))
                }
            }
            Source::Device => {
                let mut pass = Pass::new(gpu);
                FillRandom::new(gpu)?.dispatch(&mut pass, &matrix, 5, 0.05);
                pass.submit();
                None
            }
        };
        Ok(Self { matrix, host })
    }

    pub(super) fn row(&self, gpu: &Gpu, row: usize) -> Result<Cow<'_, [f32]>, Failure> {
        let cols = self.matrix.cols();
        match &self.host {
            Some(values) => Ok(Cow::Borrowed(&values[row * cols..][..cols])),
            None => Ok(Cow::Owned(self.matrix.read_row(gpu, row)?)),
        }
    }
}

/// Tokens and matrix rows whose outputs are compared: all of a small product, the edges and some more of a large one.
fn sampled(s: &Shape) -> (Vec<usize>, Vec<usize>) {
    let budget = MAX_OUTPUTS.min(MAX_PRODUCTS / s.cols);
    let reads = if s.weights == Source::Device { MAX_READS } else { MAX_OUTPUTS };
    if s.rows * s.n_tokens <= budget && s.rows <= reads {
        return ((0..s.n_tokens).collect(), (0..s.rows).collect());
    }
    let tokens = places(s.n_tokens, budget.isqrt(), 9);
    let rows = places(s.rows, (budget / tokens.len()).min(reads), 10);
    (tokens, rows)
}

/// Whether adapters may flush weight `k` of a row to zero: where it, or the scale of its block, is below the smallest normal number.
pub(super) fn flushes(dtype: DType, row: &[f32], k: usize) -> bool {
    const F16_MIN: f32 = 6.103_515_6e-5;
    let block = || row[k / BLOCK * BLOCK..][..BLOCK].iter().fold(0f32, |m, w| m.max(w.abs()));
    match dtype {
        DType::F32 | DType::BF16 => row[k].abs() < f32::MIN_POSITIVE,
        DType::F16 => row[k].abs() < F16_MIN,
        DType::Q8 => block() < 127.0 * F16_MIN,
        DType::Q4 => block() < 16.0 * F16_MIN,
    }
}

/// What one output should be, given what is added to the sum.
pub(super) fn expected(dtype: DType, weights: &[f32], x: &[f32], added: &[f32]) -> Expected {
    let mut magnitude: f64 = added.iter().map(|&term| f64::from(term).abs()).sum();
    let mut flushed = 0.0;
    for (k, (&w, &x)) in weights.iter().zip(x).enumerate() {
        let product = (f64::from(w) * f64::from(x)).abs();
        magnitude += product;
        if flushes(dtype, weights, k) || x.abs() < f32::MIN_POSITIVE {
            flushed += product;
        }
    }
    Expected {
        value: matmul::reference(weights, x) + added.iter().map(|&term| f64::from(term)).sum::<f64>(),
        bound: compare::sum_bound(x.len(), magnitude) + flushed,
    }
}

/// What rounding to f16 explains in one output: half a unit in the last place of each operand, and the smallest subnormal of what lies
/// below f16's normal range (or all of it, where subnormals are flushed).
pub(super) fn halves_bound(weights: &[f32], x: &[f32]) -> f64 {
    const U: f64 = 1.0 / 2048.0;
    const MIN_NORMAL: f64 = 1.0 / 16384.0;
    let scale = f64::from(to_f16::scale(x));
    let error = |v: f64| if v < MIN_NORMAL { v } else { U * v };
    let one = |(&w, &x): (&f32, &f32)| {
        let (w, x) = (f64::from(w).abs(), f64::from(x).abs() / scale);
        (error(w) * x + w * error(x) + error(w) * error(x)) * scale
    };
    weights.iter().zip(x).map(one).sum()
}

fn compile(gpu: &Gpu, s: &Shape) -> qwgpu_runtime::Result<Matmul> {
    match s.kernel {
        Kernel::Matvec(workgroup) => {
            let rows = if s.n_tokens <= 2 { 4 } else { 2 };
            Matmul::matvec_only(gpu, s.dtype, Share { workgroup, rows }, s.n_tokens)
        }
        Kernel::Step(share) => Matmul::matvec_only(gpu, s.dtype, share, s.n_tokens),
        Kernel::Tiled => Matmul::tiled_only(gpu, s.dtype),
        Kernel::Coop(side) => {
            let grid = matmul_coop::grids(gpu.caps()).into_iter().find(|grid| grid.side == side);
            Matmul::coop_only(gpu, s.dtype, grid.expect("cases say which grid they need"))
        }
        Kernel::Chosen => Matmul::new(gpu, &[s.dtype]),
    }
}

/// The product on matrix units; for an odd number of tokens with x in the operand beforehand, and nothing but NaN in x itself.
fn run_coop(gpu: &Gpu, kernel: &Matmul, pass: &mut Pass<'_>, product: &Product<'_>) -> qwgpu_runtime::Result<()> {
    let (n_tokens, cols) = (product.out.rows(), product.x.cols());
    let (true, Some(operand)) = (n_tokens % 2 == 1, product.operand) else {
        kernel.dispatch_coop(pass, product);
        return Ok(());
    };
    ToF16::new(gpu)?.dispatch(pass, product.x, n_tokens, operand);
    let x = &padded(gpu, n_tokens, cols, &vec![f32::NAN; n_tokens * cols])?;
    let in_operand = true;
    kernel.dispatch_coop(pass, &Product { x, in_operand, ..*product });
    Ok(())
}

fn run(gpu: &Gpu, s: &Shape, product: &Product<'_>) -> qwgpu_runtime::Result<()> {
    let kernel = compile(gpu, s)?;
    let mut pass = Pass::new(gpu);
    match s.kernel {
        Kernel::Tiled => kernel.dispatch_tiled(&mut pass, product),
        Kernel::Coop(_) => run_coop(gpu, &kernel, &mut pass, product)?,
        Kernel::Matvec(_) | Kernel::Step(_) | Kernel::Chosen => kernel.dispatch(&mut pass, product),
    }
    pass.submit();
    Ok(())
}

fn check(gpu: &Gpu, s: &Shape) -> Checked {
    let weights = Weights::new(gpu, s)?;
    let x = fill::values(s.x, 6, s.n_tokens, s.cols);
    let bias = fill::values(Fill::Plain, 7, 1, s.rows);
    let before = if s.accumulate {
        fill::values(Fill::Plain, 8, s.n_tokens, s.rows)
    } else {
        Vec::new()
    };
    let x_tensor = padded(gpu, s.n_tokens, s.cols, &x)?;
    let bias_tensor: Tensor = padded(gpu, 1, s.rows, &bias)?;
    let out = if s.accumulate {
        Guarded::holding(gpu, s.n_tokens, s.rows, &before)?
    } else {
        Guarded::new(gpu, s.n_tokens, s.rows, Elem::F32)?
    };
    let operand = Operand::new(gpu, s.n_tokens, s.cols)?;
    let product = Product {
        weights: &weights.matrix,
        x: &x_tensor,
        bias: s.bias.then_some(&bias_tensor),
        accumulate: s.accumulate,
        out: out.out(),
        operand: Some(&operand),
        in_operand: false,
        in_bytes: false,
        bytes: None,
    };
    run(gpu, s, &product)?;
    let (tokens, rows) = sampled(s);
    let mut all = Vec::with_capacity(tokens.len() * rows.len());
    for &r in &rows {
        let weights_row = weights.row(gpu, r)?;
        for &t in &tokens {
            let index = t * s.rows + r;
            let mut added = Vec::new();
            added.extend(s.bias.then(|| bias[r]));
            added.extend(s.accumulate.then(|| before[index]));
            let x_row = &x[t * s.cols..][..s.cols];
            let mut expected = expected(s.dtype, &weights_row, x_row, &added);
            if s.on_matrix_units(gpu) {
                expected.bound += halves_bound(&weights_row, x_row);
            }
            all.push((index, expected));
        }
    }
    compare::sampled("out", s.rows, &out.read_f32(gpu)?, all)
}
