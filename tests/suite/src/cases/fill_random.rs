//! Random weights: the hash bit for bit, whatever the type and the split, and nothing behind the last element.

use qwgpu_runtime::{BLOCK, DType, Gpu, Matrix, Pass, kernels::fill_random, narrow};

use super::{Checked, models, places::places};
use crate::{
    Axis, Case, Failure, Scale,
    compare::{Comparison, EPS16, EPS32, Expected},
};

const ROWS: [usize; 7] = [3, 1, 65, 2, 130, 64, 37];
/// Around the 64 words of a workgroup.
const COLS: [usize; 8] = [24, 8, 128, 64, 136, 72, 896, 1160];
/// Rows that are compared of a large matrix.
const MAX_ROWS: usize = 48;

/// One matrix.
#[derive(Clone, Copy, Debug)]
struct Shape {
    dtype: DType,
    rows: usize,
    cols: usize,
    seed: u32,
    scale: f32,
}

impl Shape {
    fn case(self, split: bool) -> Case {
        let Self {
            dtype,
            rows,
            cols,
            seed,
            scale,
        } = self;
        let name = format!("{dtype} [{rows}, {cols}], seed {seed}, up to {scale}");
        let case = Case::new("fill_random", name, move |gpu| check(gpu, self));
        if split { case.over(&[Axis::Binding]) } else { case }
    }
}

pub(super) fn cases(scale: Scale) -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in DType::ALL {
        let shape = |rows, cols: usize, seed| Shape {
            dtype,
            rows,
            cols: cols.next_multiple_of(dtype.column_multiple()),
            seed,
            scale: 0.03,
        };
        for (i, rows) in ROWS.into_iter().enumerate() {
            for (j, cols) in COLS.into_iter().enumerate() {
                let seed = [0, 1, 77, u32::MAX, 0x8000_0000][(i + j) % 5];
                let split = dtype.element_bytes(rows * cols) as u64 > crate::Mode::SMALL_BINDING;
                cases.push(shape(rows, cols, seed).case(split).quick((i + j) % 2 == 0));
            }
        }
        // beyond f16's normal numbers at one end, near its largest at the other; a quantised block's scale is a small part of its values
        let least = if dtype.is_quantised() { 1e-3 } else { 1e-6 };
        for scale in [least, 1.0, 3e4] {
            let shape = Shape { scale, ..shape(9, 200, 5) };
            cases.push(shape.case(false).quick(true));
        }
        // more workgroups than one dimension of a dispatch may have
        let folded = 65_535 * 64 * 4 / dtype.element_bytes(1024) + 3;
        cases.push(shape(folded, 1024, 6).case(false).quick(dtype == DType::F16));
        for weights in models::matrices(scale, 64).into_iter().filter(|weights| weights.fits(dtype)) {
            cases.push(weights.named(shape(weights.rows, weights.cols, 8).case(false)));
        }
    }
    cases
}

/// What element `i` of the row-major matrix should be, given what it is.
fn expected(s: Shape, i: usize, got: f32) -> Expected {
    let x = s.scale * fill_random::reference(s.seed, i as u32);
    match s.dtype {
        DType::F32 => Expected {
            value: f64::from(x),
            bound: 0.0,
        },
        // WGSL leaves the direction of rounding to the adapter, so one unit in the last place, denormals included
        DType::F16 => Expected {
            value: f64::from(x),
            bound: f64::from(x.abs()) * 2.0 * EPS16 * (1.0 + EPS32) + 2f64.powi(-24),
        },
        DType::BF16 => Expected {
            value: f64::from(f32::from_bits(x.to_bits() & 0xffff_0000)),
            bound: 0.0,
        },
        // the nearest value of the grid, which is exact; where two are equally near, either
        DType::Q4 => {
            let (step, zero) = fill_random::block_grid(s.dtype, s.seed, (i / BLOCK) as u32, s.scale);
            let (step, zero) = (f64::from(step), f64::from(zero));
            let place = f64::from(x) / step + zero;
            let is_tie = (place - place.floor() - 0.5).abs() < 256.0 * EPS32;
            let at = |q: f64| step * (q - zero);
            let other = if f64::from(got) == at(place.floor()) {
                place.floor()
            } else {
                place.ceil()
            };
            Expected {
                value: at(if is_tie { other } else { place.round() }),
                bound: 0.0,
            }
        }
        // half a step of the grid, and what the f16 scale is off by
        DType::Q8 => {
            let (step, _) = fill_random::block_grid(s.dtype, s.seed, (i / BLOCK) as u32, s.scale);
            let scale_error = 2.0 * EPS16 * f64::from(step) + 2f64.powi(-24);
            let steps = f64::from(x.abs() / step) + 0.5;
            Expected {
                value: f64::from(x),
                bound: f64::from(step) * (0.5 + 256.0 * EPS32) + scale_error * steps,
            }
        }
    }
}

fn check(gpu: &Gpu, s: Shape) -> Checked {
    let whole = Matrix::new(gpu, "weights", s.rows + 1, s.cols, s.dtype)?;
    let matrix = whole.narrow(s.rows);
    whole.write_rows(gpu, s.rows, DType::F32, &narrow(DType::F32, &vec![f32::NAN; s.cols]))?;
    let kernel = fill_random::FillRandom::new(gpu)?;
    let mut pass = Pass::new(gpu);
    kernel.dispatch(&mut pass, &matrix, s.seed, s.scale);
    pass.submit();
    let rows = places(s.rows, MAX_ROWS, 4);
    let mut comparison = Comparison::new("weights", s.cols);
    let mut first: Option<Vec<f32>> = None;
    for row in rows {
        let got = matrix.read_row(gpu, row)?;
        for (i, &x) in (row * s.cols..).zip(&got) {
            comparison.add(i, x, expected(s, i, x));
        }
        if first.as_ref().is_some_and(|first| *first == got) {
            return Err(Failure::new(format!("row {row} repeats the first one")));
        }
        first.get_or_insert(got);
    }
    if let Some(i) = whole.read_row(gpu, s.rows)?.iter().position(|x| !x.is_nan()) {
        return Err(Failure::new(format!("wrote {i} elements past the end of [{}, {}]", s.rows, s.cols)));
    }
    comparison.finish()
}
