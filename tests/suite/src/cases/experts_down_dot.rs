//! The second half of one token's experts with integer dot products: both quantised types, every form, sizes around every step of rows
//! and columns, stacks in parts, each kind of value.

use qwgpu_runtime::{
    DType, Gpu, Pass, Tensor,
    kernels::{
        experts_down::Down,
        experts_down_dot::ExpertsDownDot,
        quantize::{self, Block},
        share::Share,
    },
};

use super::{
    Checked,
    matvec_dot::{Sum, bytes_of_rows},
    normed::share,
    places::places,
    product::Source,
    slots::{self, ALL_SLOTS, MIXES, Mix, Stack, mix},
};
use crate::{
    Case, Failure,
    compare::{self, Expected},
    fill,
    fill::Fill,
    padded,
};

/// The first is what GPUs use.
const SHARES: [Share; 9] = [
    ExpertsDownDot::SHARE,
    share(32, 4),
    share(32, 1),
    share(128, 1),
    share(64, 2),
    share(64, 1),
    share(128, 4),
    share(128, 2),
    share(32, 2),
];
/// Around the rows of a workgroup, and primes.
const D_MODEL: [usize; 8] = [13, 1, 2, 67, 3, 4, 7, 9];
/// Around the 1024, 2048 and 4096 columns of a step, and so few that a step takes several slots.
const COLS: [usize; 8] = [1088, 64, 960, 1024, 4160, 448, 4096, 2112];
/// Outputs of a case that are compared.
const MAX_OUTPUTS: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Shape {
    share: Share,
    mix: Mix,
    dtype: DType,
    d_model: usize,
    d_ff: usize,
    hidden: Fill,
}

impl Shape {
    const fn new(share: Share, mix: Mix, dtype: DType, [d_model, d_ff]: [usize; 2]) -> Self {
        Self {
            share,
            mix,
            dtype,
            d_model,
            d_ff,
            hidden: Fill::Plain,
        }
    }

    const fn stack(&self) -> slots::Shape {
        slots::Shape {
            mix: self.mix,
            dtype: self.dtype,
            rows: self.d_model,
            cols: self.d_ff,
            weights: Source::Host(Fill::Plain),
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
        } = self;
        let name = format!(
            "workgroup {} of {} rows, {mix}, {dtype} [{d_model}, {d_ff}], hidden {hidden}",
            share.workgroup, share.rows
        );
        Case::new("experts_down_dot", name, move |gpu| check(gpu, &self)).over(self.stack().axes())
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in [DType::Q8, DType::Q4] {
        for (i, share) in SHARES.into_iter().enumerate() {
            for (j, d_model) in D_MODEL.into_iter().enumerate() {
                let shape = Shape::new(
                    share,
                    MIXES[(i + 2 * j) % MIXES.len()],
                    dtype,
                    [d_model, COLS[(3 * i + j) % COLS.len()]],
                );
                cases.push(shape.case().quick(j < if i < 4 { 3 } else { 1 }));
            }
        }
        // three experts to a small binding
        cases.push(
            Shape::new(SHARES[0], MIXES[0], dtype, [40, 1024 / dtype.element_bytes(2)])
                .case()
                .quick(true),
        );
        for (i, hidden) in Fill::ALL.into_iter().enumerate().skip(1) {
            let shape = Shape::new(SHARES[i % 4], MIXES[i], dtype, [19, 448]);
            cases.push(Shape { hidden, ..shape }.case().quick(true));
        }
    }
    cases.push(Shape::new(SHARES[0], ALL_SLOTS, DType::Q4, [3, 64]).case().quick(true));
    // more rows than workgroups in one dimension of a dispatch; one mode is enough
    let folded = Shape::new(share(64, 1), mix(1, 1, 0), DType::Q8, [65_539, 64]);
    cases.push(folded.case().over(&[]).quick(true));
    cases
}

fn check(gpu: &Gpu, s: &Shape) -> Checked {
    let (n_slots, k) = (s.mix.n_slots(), s.mix.k);
    let stack = Stack::new(gpu, s.stack())?;
    let hidden = fill::values(s.hidden, 51, n_slots, s.d_ff);
    let hidden_tensor = padded(gpu, n_slots, s.d_ff, &hidden)?;
    let factors = fill::values(Fill::Plain, 52, 1, k + 1);
    // a guard of numbers behind the output: what is added to NaN leaves no trace
    let before = fill::values(Fill::Plain, 53, 2, s.d_model);
    let whole = Tensor::from_f32(gpu, "out", 2, s.d_model, &before)?;
    let mut pass = Pass::new(gpu);
    let bytes = bytes_of_rows(gpu, &mut pass, &hidden_tensor)?;
    let operands = Down {
        experts: &stack.matrix,
        n_experts: s.mix.n_experts,
        n_shared: s.mix.n_shared,
        hidden: &hidden_tensor,
        chosen: &s.mix.chosen_tensor(gpu)?,
        factors: &padded(gpu, 1, k + 1, &factors)?,
        out: &whole.narrow(1),
    };
    ExpertsDownDot::with_share(gpu, s.dtype, s.share)?.dispatch(&mut pass, &operands, &bytes);
    pass.submit();

    let blocks: Vec<Vec<Block>> = hidden.chunks_exact(s.d_ff).map(quantize::reference).collect();
    let mut all = Vec::new();
    for r in places(s.d_model, MAX_OUTPUTS, 54) {
        let sum = |slot: usize| Ok((factors[slot.min(k)], Sum::of(&stack.row(gpu, slot, r)?, &blocks[slot])));
        let sums = (0..n_slots).map(sum).collect::<Result<Vec<_>, Failure>>()?;
        all.push((r, expected(&sums, s.d_ff, before[r])));
    }
    let after = whole.read_f32(gpu)?;
    let guard = compare::exact("guard", s.d_model, &after[s.d_model..], &before[s.d_model..])?;
    Ok(guard.and(compare::sampled("out", s.d_model, &after, all)?))
}

/// One output, given the factor and the product of each slot, and what it held before.
fn expected(sums: &[(f32, Sum)], d_ff: usize, before: f32) -> Expected {
    let (mut value, mut magnitude, mut doubt) = (f64::from(before), f64::from(before).abs(), 0.0);
    for &(factor, sum) in sums {
        let factor = f64::from(factor);
        value += factor * sum.value;
        magnitude += factor.abs() * sum.magnitude;
        doubt += factor.abs() * sum.doubt;
    }
    Expected {
        value,
        bound: compare::sum_bound(sums.len() * d_ff / 32 + 1, magnitude) + doubt,
    }
}
