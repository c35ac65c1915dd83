//! The first half of one token's experts with integer dot products: both quantised types, every form, sizes around every step of rows
//! and columns, stacks in parts, large gates.

use qwgpu_runtime::{
    DType, Elem, Gpu, Pass,
    kernels::{
        experts_gate_up::GateUp,
        experts_gate_up_dot::ExpertsGateUpDot,
        quantize::{self, Block},
        share::Share,
    },
};

use super::{
    Checked,
    matvec_dot::{Sum, bytes_of_rows},
    norm_gate_up,
    normed::share,
    places::places,
    product::Source,
    slots::{self, ALL_SLOTS, MIXES, Mix, Stack, mix},
};
use crate::{
    Case, Guarded,
    compare::{self, Expected},
    fill,
    fill::Fill,
    padded,
};

/// The first is what GPUs use.
const SHARES: [Share; 6] = [
    ExpertsGateUpDot::SHARE,
    share(32, 4),
    share(128, 4),
    share(128, 2),
    share(32, 2),
    share(64, 4),
];
/// Around the one, two or four outputs of a workgroup, and primes.
const D_FF: [usize; 8] = [13, 1, 2, 67, 3, 4, 5, 7];
/// Around the 1024, 2048 and 4096 columns of a step.
const COLS: [usize; 8] = [1088, 64, 960, 1024, 4160, 448, 4032, 2112];
/// Outputs of a slot that are compared.
const MAX_OUTPUTS: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Shape {
    share: Share,
    mix: Mix,
    dtype: DType,
    d_ff: usize,
    d_model: usize,
    x: Fill,
    /// What x is multiplied by: the size of the gates.
    scale: f32,
}

impl Shape {
    const fn new(share: Share, mix: Mix, dtype: DType, [d_ff, d_model]: [usize; 2]) -> Self {
        Self {
            share,
            mix,
            dtype,
            d_ff,
            d_model,
            x: Fill::Plain,
            scale: 1.0,
        }
    }

    const fn stack(&self) -> slots::Shape {
        slots::Shape {
            mix: self.mix,
            dtype: self.dtype,
            rows: 2 * self.d_ff,
            cols: self.d_model,
            weights: Source::Host(Fill::Plain),
        }
    }

    fn case(self) -> Case {
        let Self {
            share,
            mix,
            dtype,
            d_ff,
            d_model,
            x,
            scale,
        } = self;
        let name = format!(
            "workgroup {} of {} rows, {mix}, {dtype} [2 x {d_ff}, {d_model}], x {x} times {scale:e}",
            share.workgroup, share.rows
        );
        Case::new("experts_gate_up_dot", name, move |gpu| check(gpu, &self)).over(self.stack().axes())
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in [DType::Q8, DType::Q4] {
        for (i, share) in SHARES.into_iter().enumerate() {
            for (j, d_ff) in D_FF.into_iter().enumerate() {
                let shape = Shape::new(share, MIXES[(i + j) % MIXES.len()], dtype, [d_ff, COLS[(3 * i + j) % COLS.len()]]);
                cases.push(shape.case().quick(j < if i < 4 { 3 } else { 1 }));
            }
        }
        // three experts to a small binding
        cases.push(
            Shape::new(SHARES[0], MIXES[0], dtype, [20, 1024 / dtype.element_bytes(2)])
                .case()
                .quick(true),
        );
        for (i, x) in Fill::ALL.into_iter().enumerate().skip(1) {
            let shape = Shape::new(SHARES[i % 2], MIXES[i], dtype, [7, 896]);
            cases.push(Shape { x, ..shape }.case().quick(true));
        }
        for (i, scale) in [0.01, 3.0, 30.0, 1e3, 1e12].into_iter().enumerate() {
            let shape = Shape::new(SHARES[i % 2], MIXES[i], dtype, [11, 256]);
            cases.push(Shape { scale, ..shape }.case().quick(dtype == DType::Q4));
        }
    }
    cases.push(Shape::new(SHARES[0], ALL_SLOTS, DType::Q4, [1, 64]).case().quick(true));
    // more outputs than workgroups in one dimension of a dispatch; one mode is enough
    let folded = Shape::new(SHARES[0], mix(1, 1, 0), DType::Q8, [65_539, 64]);
    cases.push(folded.case().over(&[]).quick(true));
    cases
}

fn check(gpu: &Gpu, s: &Shape) -> Checked {
    let stack = Stack::new(gpu, s.stack())?;
    let mut x = fill::values(s.x, 34, 1, s.d_model);
    x.iter_mut().for_each(|x| *x *= s.scale);
    let x_tensor = padded(gpu, 1, s.d_model, &x)?;
    let out = Guarded::new(gpu, s.mix.n_slots(), s.d_ff, Elem::F32)?;
    let mut pass = Pass::new(gpu);
    let bytes = bytes_of_rows(gpu, &mut pass, &x_tensor)?;
    let operands = GateUp {
        experts: &stack.matrix,
        n_experts: s.mix.n_experts,
        n_shared: s.mix.n_shared,
        x: &x_tensor,
        norm: &x_tensor,
        eps: 0.0,
        chosen: &s.mix.chosen_tensor(gpu)?,
        out: out.out(),
    };
    ExpertsGateUpDot::with_share(gpu, s.dtype, s.share)?.dispatch(&mut pass, &operands, &bytes);
    pass.submit();

    let blocks = quantize::reference(&x);
    let mut all = Vec::new();
    for slot in 0..s.mix.n_slots() {
        for i in places(s.d_ff, MAX_OUTPUTS, 36 + slot as u64) {
            let gate = product(&stack.row(gpu, slot, i)?, &blocks);
            let up = product(&stack.row(gpu, slot, s.d_ff + i)?, &blocks);
            all.push((slot * s.d_ff + i, norm_gate_up::expected(gate, up)));
        }
    }
    compare::sampled("out", s.d_ff, &out.read_f32(gpu)?, all)
}

/// One product with a vector of bytes, and what explains its error.
pub(super) fn product(row: &[f32], blocks: &[Block]) -> Expected {
    let Sum { value, magnitude, doubt } = Sum::of(row, blocks);
    Expected {
        value,
        bound: compare::sum_bound(blocks.len(), magnitude) + doubt,
    }
}
