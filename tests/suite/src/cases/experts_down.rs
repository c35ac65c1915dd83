//! The second half of one token's experts: every form, sizes around every step of rows and columns, stacks in parts, each kind of value.

use qwgpu_runtime::{
    DType, Gpu, Pass, Tensor,
    kernels::{
        experts_down::{self, Down, ExpertsDown},
        share::Share,
    },
};

use super::{
    Checked,
    models::MODELS,
    normed::{SHARES, share},
    places::places,
    product::{Source, flushes},
    slots::{self, ALL_SLOTS, MIXES, Mix, Stack, mix},
};
use crate::{
    Case, Failure, Scale,
    compare::{self, Expected},
    fill,
    fill::Fill,
    padded,
};

/// Around the 1, 2, 4 or 32 rows of a workgroup, and primes.
const D_MODEL: [usize; 8] = [13, 1, 33, 2, 67, 3, 4, 31];
/// Around the 512, 1,024 or 2,048 columns of a step, and so few that a step takes several slots.
const COLS: [usize; 11] = [264, 8, 512, 520, 64, 1032, 24, 504, 2048, 1024, 2056];
/// More rows than the 65,535 workgroups that one dimension of a dispatch usually may have.
const FOLDED: usize = 65_539;
/// Outputs of a case that are compared, and of one whose weights are read back.
const MAX_OUTPUTS: usize = 64;
const MAX_READ_OUTPUTS: usize = 12;

/// Those that kernels with pairs of rows have, and single rows.
const ALL_SHARES: [Share; 10] = [
    SHARES[0],
    share(64, 1),
    SHARES[1],
    SHARES[2],
    SHARES[3],
    share(128, 1),
    SHARES[4],
    SHARES[5],
    share(256, 1),
    SHARES[7],
];

#[derive(Clone, Copy, Debug)]
struct Shape {
    share: Share,
    mix: Mix,
    dtype: DType,
    d_model: usize,
    d_ff: usize,
    hidden: Fill,
    weights: Source,
}

impl Shape {
    const fn new(share: Share, mix: Mix, dtype: DType, [d_model, d_ff]: [usize; 2]) -> Self {
        Self {
            share,
            mix,
            dtype,
            d_model,
            d_ff: d_ff.next_multiple_of(dtype.column_multiple()),
            hidden: Fill::Plain,
            weights: Source::Host(Fill::Plain),
        }
    }

    const fn stack(&self) -> slots::Shape {
        slots::Shape {
            mix: self.mix,
            dtype: self.dtype,
            rows: self.d_model,
            cols: self.d_ff,
            weights: self.weights,
        }
    }

    fn case(self) -> Case {
        let Self {
            share,
            mix,
            dtype,
            d_model,
            d_ff,
            hidden,
            weights,
        } = self;
        let name = format!(
            "workgroup {} of {} rows, {mix}, {dtype} [{d_model}, {d_ff}], weights {weights:?}, hidden {hidden}",
            share.workgroup, share.rows
        );
        Case::new("experts_down", name, move |gpu| check(gpu, &self)).over(self.stack().axes())
    }
}

pub(super) fn cases(scale: Scale) -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in DType::ALL {
        for (i, share) in ALL_SHARES.into_iter().enumerate() {
            for (j, d_model) in D_MODEL.into_iter().enumerate() {
                let mix = MIXES[(i + 2 * j) % MIXES.len()];
                let case = Shape::new(share, mix, dtype, [d_model, COLS[(4 * i + j) % COLS.len()]]).case();
                // every form for one type of weights
                cases.push(case.quick(if dtype == DType::BF16 { i < 2 || j == 0 } else { i == 1 && j < 3 }));
            }
        }
        // three experts to a small binding
        cases.push(
            Shape::new(SHARES[0], MIXES[0], dtype, [40, 1024 / dtype.element_bytes(2)])
                .case()
                .quick(true),
        );
        cases.extend(hard_values(dtype));
        if scale == Scale::Real {
            cases.extend(models(dtype));
        }
    }
    cases.push(Shape::new(SHARES[1], ALL_SLOTS, DType::BF16, [3, 8]).case().quick(true));
    // one mode is enough: a grid of two dimensions is the same in every text
    let folded = Shape::new(share(64, 1), mix(2, 1, 1), DType::BF16, [FOLDED, 8]);
    cases.push(folded.case().over(&[]).quick(true));
    cases
}

/// Each kind of value in the hidden activations and in the matrices.
fn hard_values(dtype: DType) -> Vec<Case> {
    let mut cases = Vec::new();
    let quick = dtype == DType::BF16;
    for (i, fill) in Fill::ALL.into_iter().filter(|&fill| fill != Fill::Plain).enumerate() {
        let shape = Shape::new(SHARES[i % 2], MIXES[i], dtype, [19, 408]);
        cases.push(Shape { hidden: fill, ..shape }.case().quick(quick));
        let weights = Source::Host(fill);
        cases.push(Shape { weights, ..shape }.case().quick(quick));
    }
    cases
}

/// The experts of the largest mixture, a few of them, with as many slots as a token has.
fn models(dtype: DType) -> Vec<Case> {
    let model = MODELS
        .iter()
        .find(|model| model.d_ff.len() == 2)
        .expect("there is a mixture of experts");
    let [d_ff, shared] = [model.d_ff[0], model.d_ff[1]];
    let case = |(i, share)| {
        let shape = Shape::new(share, mix(9, 8, shared / d_ff), dtype, [model.d_model, d_ff]);
        let weights = Source::Device;
        let case: Case = Shape { weights, ..shape }.case();
        case.quick(i == 0 && dtype == DType::BF16)
    };
    SHARES.into_iter().take(2).enumerate().map(case).collect()
}

fn check(gpu: &Gpu, s: &Shape) -> Checked {
    let (n_slots, k) = (s.mix.n_slots(), s.mix.k);
    let stack = Stack::new(gpu, s.stack())?;
    let hidden = fill::values(s.hidden, 51, n_slots, s.d_ff);
    let factors = fill::values(Fill::Plain, 52, 1, k + 1);
    // a guard of numbers behind the output: what is added to NaN leaves no trace
    let before = fill::values(Fill::Plain, 53, 2, s.d_model);
    let whole = Tensor::from_f32(gpu, "out", 2, s.d_model, &before)?;
    let mut pass = Pass::new(gpu);
    let operands = Down {
        experts: &stack.matrix,
        n_experts: s.mix.n_experts,
        n_shared: s.mix.n_shared,
        hidden: &padded(gpu, n_slots, s.d_ff, &hidden)?,
        chosen: &s.mix.chosen_tensor(gpu)?,
        factors: &padded(gpu, 1, k + 1, &factors)?,
        out: &whole.narrow(1),
    };
    ExpertsDown::with_share(gpu, s.dtype, s.share)?.dispatch(&mut pass, &operands);
    pass.submit();

    let at_most = if s.weights == Source::Device {
        MAX_READ_OUTPUTS
    } else {
        MAX_OUTPUTS
    };
    let mut all = Vec::new();
    for r in places(s.d_model, at_most, 54) {
        let rows = (0..n_slots)
            .map(|slot| stack.row(gpu, slot, r))
            .collect::<Result<Vec<_>, Failure>>()?;
        let slots = rows.iter().zip(hidden.chunks_exact(s.d_ff)).enumerate();
        let slots: Vec<_> = slots.map(|(slot, (row, hidden))| (factors[slot.min(k)], &**row, hidden)).collect();
        all.push((r, expected(s.dtype, &slots, before[r])));
    }
    let after = whole.read_f32(gpu)?;
    let guard = compare::exact("guard", s.d_model, &after[s.d_model..], &before[s.d_model..])?;
    Ok(guard.and(compare::sampled("out", s.d_model, &after, all)?))
}

/// One output, given the factor, the row and the activations of each slot, and what it held before.
fn expected(dtype: DType, slots: &[(f32, &[f32], &[f32])], before: f32) -> Expected {
    let (mut n, mut magnitude, mut flushed) = (1, f64::from(before).abs(), 0.0);
    for &(factor, row, hidden) in slots {
        n += row.len();
        for (k, (&w, &h)) in row.iter().zip(hidden).enumerate() {
            let term = (f64::from(factor) * f64::from(w) * f64::from(h)).abs();
            magnitude += term;
            if flushes(dtype, row, k) || h.abs() < f32::MIN_POSITIVE || (factor * h).abs() < f32::MIN_POSITIVE {
                flushed += term;
            }
        }
    }
    Expected {
        value: experts_down::reference(slots.iter().copied()) + f64::from(before),
        bound: compare::sum_bound(n, magnitude) + flushed,
    }
}
