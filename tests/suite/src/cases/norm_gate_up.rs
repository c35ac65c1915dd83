//! The first half of one token's feed-forward: every form, sizes around every step of rows and columns, gates beyond the range of exp.

use qwgpu_runtime::{
    DType, Elem, Gpu, Pass,
    kernels::{norm_gate_up::NormGateUp, share::Share, silu_mul},
};

use super::{
    Checked, models,
    normed::{Normed, SHARES, axes, share},
    places::places,
    product::{self, Source, Weights},
};
use crate::{
    Case, Guarded, Scale,
    compare::{self, Expected, TINY},
    fill,
    fill::Fill,
    padded,
};

/// Around the 1, 2 or 16 outputs of a workgroup, and primes.
const D_FF: [usize; 11] = [13, 1, 17, 2, 67, 3, 16, 4, 31, 5, 8];
/// Around the 512, 1,024 or 2,048 columns of a step, and what leaves most invocations without work.
const COLS: [usize; 12] = [264, 8, 896, 520, 64, 1032, 504, 24, 1024, 2056, 16, 1544];
/// More outputs than the 65,535 workgroups that one dimension of a dispatch usually may have, in two equal halves.
const FOLDED: usize = 65_539;
/// Outputs of a case that are compared.
const MAX_OUTPUTS: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Shape {
    share: Share,
    dtype: DType,
    d_ff: usize,
    d_model: usize,
    x: Fill,
    norm: Fill,
    /// What the norm's weights are multiplied by: the size of the gates.
    scale: f32,
    weights: Source,
}

impl Shape {
    const fn new(share: Share, dtype: DType, [d_ff, d_model]: [usize; 2]) -> Self {
        Self {
            share,
            dtype,
            d_ff,
            d_model: d_model.next_multiple_of(dtype.column_multiple()),
            x: Fill::Plain,
            norm: Fill::Plain,
            scale: 1.0,
            weights: Source::Host(Fill::Plain),
        }
    }

    fn case(self) -> Case {
        let Self {
            share,
            dtype,
            d_ff,
            d_model,
            scale,
            ..
        } = self;
        let fills = match (self.weights, self.x, self.norm) {
            (Source::Host(Fill::Plain), Fill::Plain, Fill::Plain) => String::new(),
            (Source::Host(weights), x, norm) => format!(", weights {weights}, x {x}, norm {norm}"),
            (Source::Device, ..) => ", weights made on the device".into(),
        };
        let name = format!(
            "workgroup {} of {} rows, {dtype} [2 x {d_ff}, {d_model}], norm times {scale:e}{fills}",
            share.workgroup, share.rows
        );
        Case::new("norm_gate_up", name, move |gpu| check(gpu, &self)).over(axes(dtype == DType::F16))
    }
}

pub(super) fn cases(scale: Scale) -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in DType::ALL {
        for (i, share) in SHARES.into_iter().enumerate() {
            for (j, d_ff) in D_FF.into_iter().enumerate() {
                let case = Shape::new(share, dtype, [d_ff, COLS[(4 * i + j) % COLS.len()]]).case();
                // every form for one type of weights
                cases.push(case.quick(if dtype == DType::BF16 {
                    i < 3 || j == 0
                } else {
                    matches!(i, 1 | 2) && j < 3
                }));
            }
        }
        cases.extend(hard_values(dtype));
        let matrices = models::matrices(scale, 8).into_iter().filter(|weights| weights.fits(dtype));
        let gates = matrices.filter(|weights| weights.rows % 2 == 0 && weights.name.ends_with("gate and up"));
        cases.extend(gates.enumerate().map(|(i, matrix)| {
            let shape = Shape::new(SHARES[i % 2], dtype, [matrix.rows / 2, matrix.cols]);
            let weights = Source::Device;
            matrix.named(Shape { weights, ..shape }.case())
        }));
    }
    // one mode is enough: a grid of two dimensions is the same in every text
    let folded = Shape::new(share(64, 2), DType::BF16, [FOLDED, 8]);
    cases.push(folded.case().over(&[]).quick(true));
    cases
}

/// Each kind of value in x, in the norm's weights and in the matrix, and large gates.
fn hard_values(dtype: DType) -> Vec<Case> {
    let mut cases = Vec::new();
    let quick = dtype == DType::BF16;
    for (i, fill) in Fill::ALL.into_iter().filter(|&fill| fill != Fill::Plain).enumerate() {
        let shape = Shape::new(SHARES[i % 2], dtype, [19, 904]);
        cases.push(Shape { x: fill, ..shape }.case().quick(quick));
        cases.push(Shape { norm: fill, ..shape }.case().quick(quick));
        let weights = Source::Host(fill);
        cases.push(Shape { weights, ..shape }.case().quick(quick));
    }
    for (i, scale) in [0.01, 3.0, 30.0, 1e3, 1e12].into_iter().enumerate() {
        let shape = Shape::new(SHARES[i % 2], dtype, [37, 264]);
        cases.push(Shape { scale, ..shape }.case().quick(quick));
    }
    cases
}

fn check(gpu: &Gpu, s: &Shape) -> Checked {
    let eps = 1e-6;
    let matrix = product::Shape::new(product::Kernel::Chosen, s.dtype, [2 * s.d_ff, s.d_model, 1]);
    let weights = Weights::new(
        gpu,
        &product::Shape {
            weights: s.weights,
            ..matrix
        },
    )?;
    let x = fill::values(s.x, 34, 1, s.d_model);
    let mut norm = fill::values(s.norm, 35, 1, s.d_model);
    norm.iter_mut().for_each(|weight| *weight *= s.scale);
    let x_tensor = padded(gpu, 1, s.d_model, &x)?;
    let norm_tensor = padded(gpu, 1, s.d_model, &norm)?;
    let out = Guarded::new(gpu, 1, s.d_ff, Elem::F32)?;
    let mut pass = Pass::new(gpu);
    NormGateUp::with_share(gpu, s.dtype, s.share)?.dispatch(&mut pass, &weights.matrix, &x_tensor, &norm_tensor, eps, out.out());
    pass.submit();

    let normed = Normed::new(&x, &norm, eps);
    let mut all = Vec::new();
    for i in places(s.d_ff, MAX_OUTPUTS, 36) {
        let gate = normed.product(s.dtype, &weights.row(gpu, i)?, 0.0);
        let up = normed.product(s.dtype, &weights.row(gpu, s.d_ff + i)?, 0.0);
        all.push((i, expected(gate, up)));
    }
    compare::sampled("out", s.d_ff, &out.read_f32(gpu)?, all)
}

/// silu(gate) * up, given how far both may be off: silu's slope stays below 1.1.
pub(super) fn expected(gate: Expected, up: Expected) -> Expected {
    let silu = silu_mul::silu(gate.value);
    let value = silu * up.value;
    let relative = compare::exp_error(gate.value.clamp(-80.0, 80.0)) + compare::sum_bound(2, 1.0);
    // the kernel stops at e^-80, where the definition goes on to zero
    let tail = (gate.value * up.value).abs() * (-80f64).exp();
    let inputs = 1.1 * gate.bound * (up.value.abs() + up.bound) + silu.abs() * up.bound;
    Expected {
        value,
        bound: inputs + relative * value.abs() + 1.001 * tail + TINY * (1.0 + up.value.abs()),
    }
}
