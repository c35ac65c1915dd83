//! The first half of one token's experts: every form, sizes around every step of rows and columns, stacks in parts, gates beyond the
//! range of exp.

use qwgpu_runtime::{
    DType, Elem, Gpu, Pass,
    kernels::{
        experts_gate_up::{ExpertsGateUp, GateUp},
        share::Share,
    },
};

use super::{
    Checked,
    models::MODELS,
    norm_gate_up,
    normed::{Normed, SHARES, share},
    places::places,
    product::Source,
    slots::{self, ALL_SLOTS, MIXES, Mix, Stack, mix},
};
use crate::{Case, Guarded, Scale, compare, fill, fill::Fill, padded};

/// Around the 1, 2 or 16 outputs of a workgroup, and primes.
const D_FF: [usize; 8] = [13, 1, 17, 2, 67, 3, 4, 31];
/// Around the 512, 1,024 or 2,048 columns of a step, and what leaves most invocations without work.
const COLS: [usize; 9] = [264, 8, 896, 520, 64, 1032, 24, 504, 2056];
/// More outputs than the 65,535 workgroups that one dimension of a dispatch usually may have.
const FOLDED: usize = 65_539;
/// Outputs of a slot that are compared, and of all slots together.
const MAX_OUTPUTS: usize = 32;

#[derive(Clone, Copy, Debug)]
struct Shape {
    share: Share,
    mix: Mix,
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
    const fn new(share: Share, mix: Mix, dtype: DType, [d_ff, d_model]: [usize; 2]) -> Self {
        Self {
            share,
            mix,
            dtype,
            d_ff,
            d_model: d_model.next_multiple_of(dtype.column_multiple()),
            x: Fill::Plain,
            norm: Fill::Plain,
            scale: 1.0,
            weights: Source::Host(Fill::Plain),
        }
    }

    const fn stack(&self) -> slots::Shape {
        slots::Shape {
            mix: self.mix,
            dtype: self.dtype,
            rows: 2 * self.d_ff,
            cols: self.d_model,
            weights: self.weights,
        }
    }

    fn case(self) -> Case {
        let Self {
            share,
            mix,
            dtype,
            d_ff,
            d_model,
            scale,
            x,
            norm,
            weights,
        } = self;
        let name = format!(
            "workgroup {} of {} rows, {mix}, {dtype} [2 x {d_ff}, {d_model}], weights {weights:?}, x {x}, norm {norm} times {scale:e}",
            share.workgroup, share.rows
        );
        Case::new("experts_gate_up", name, move |gpu| check(gpu, &self)).over(self.stack().axes())
    }
}

pub(super) fn cases(scale: Scale) -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in DType::ALL {
        for (i, share) in SHARES.into_iter().enumerate() {
            for (j, d_ff) in D_FF.into_iter().enumerate() {
                let mix = MIXES[(i + j) % MIXES.len()];
                let case = Shape::new(share, mix, dtype, [d_ff, COLS[(4 * i + j) % COLS.len()]]).case();
                // every form for one type of weights
                cases.push(case.quick(if dtype == DType::BF16 { i < 2 || j == 0 } else { i == 1 && j < 3 }));
            }
        }
        // three experts to a small binding
        cases.push(
            Shape::new(SHARES[0], MIXES[0], dtype, [20, 1024 / dtype.element_bytes(2)])
                .case()
                .quick(true),
        );
        cases.extend(hard_values(dtype));
        if scale == Scale::Real {
            cases.extend(models(dtype));
        }
    }
    cases.push(Shape::new(SHARES[1], ALL_SLOTS, DType::BF16, [1, 8]).case().quick(true));
    // one mode is enough: a grid of two dimensions is the same in every text
    let folded = Shape::new(share(64, 2), mix(2, 1, 1), DType::BF16, [FOLDED, 8]);
    cases.push(folded.case().over(&[]).quick(true));
    cases
}

/// Each kind of value in x, in the norm's weights and in the matrices, and large gates.
fn hard_values(dtype: DType) -> Vec<Case> {
    let mut cases = Vec::new();
    let quick = dtype == DType::BF16;
    for (i, fill) in Fill::ALL.into_iter().filter(|&fill| fill != Fill::Plain).enumerate() {
        let shape = Shape::new(SHARES[i % 2], MIXES[i], dtype, [7, 904]);
        cases.push(Shape { x: fill, ..shape }.case().quick(quick));
        cases.push(Shape { norm: fill, ..shape }.case().quick(quick));
        let weights = Source::Host(fill);
        cases.push(Shape { weights, ..shape }.case().quick(quick));
    }
    for (i, scale) in [0.01, 3.0, 30.0, 1e3, 1e12].into_iter().enumerate() {
        let shape = Shape::new(SHARES[i % 2], MIXES[i], dtype, [11, 264]);
        cases.push(Shape { scale, ..shape }.case().quick(quick));
    }
    cases
}

/// The experts of the largest mixture, a few of them, with as many slots as a token has.
fn models(dtype: DType) -> Vec<Case> {
    let sparse = MODELS.iter().filter(|model| model.d_ff.len() == 2);
    let case = |(i, share)| {
        let model = sparse.clone().next().expect("there is a mixture of experts");
        let [d_ff, shared] = [model.d_ff[0], model.d_ff[1]];
        let shape = Shape::new(share, mix(9, 8, shared / d_ff), dtype, [d_ff, model.d_model]);
        let weights = Source::Device;
        let case: Case = Shape { weights, ..shape }.case();
        case.quick(i == 0 && dtype == DType::BF16)
    };
    SHARES.into_iter().take(2).enumerate().map(case).collect()
}

fn check(gpu: &Gpu, s: &Shape) -> Checked {
    let eps = 1e-6;
    let stack = Stack::new(gpu, s.stack())?;
    let x = fill::values(s.x, 34, 1, s.d_model);
    let mut norm = fill::values(s.norm, 35, 1, s.d_model);
    norm.iter_mut().for_each(|weight| *weight *= s.scale);
    let out = Guarded::new(gpu, s.mix.n_slots(), s.d_ff, Elem::F32)?;
    let mut pass = Pass::new(gpu);
    let operands = GateUp {
        experts: &stack.matrix,
        n_experts: s.mix.n_experts,
        n_shared: s.mix.n_shared,
        x: &padded(gpu, 1, s.d_model, &x)?,
        norm: &padded(gpu, 1, s.d_model, &norm)?,
        eps,
        chosen: &s.mix.chosen_tensor(gpu)?,
        out: out.out(),
    };
    ExpertsGateUp::with_share(gpu, s.dtype, s.share)?.dispatch(&mut pass, &operands);
    pass.submit();

    let normed = Normed::new(&x, &norm, eps);
    let mut all = Vec::new();
    for slot in 0..s.mix.n_slots() {
        for i in places(s.d_ff, MAX_OUTPUTS, 36 + slot as u64) {
            let gate = normed.product(s.dtype, &stack.row(gpu, slot, i)?, 0.0);
            let up = normed.product(s.dtype, &stack.row(gpu, slot, s.d_ff + i)?, 0.0);
            all.push((slot * s.d_ff + i, norm_gate_up::expected(gate, up)));
        }
    }
    compare::sampled("out", s.d_ff, &out.read_f32(gpu)?, all)
}
