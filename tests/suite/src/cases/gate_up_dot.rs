//! The first half of one token's feed-forward with integer dot products: both quantised types, every form, sizes around every step of
//! rows and columns, large gates.

use qwgpu_runtime::{
    DType, Elem, Gpu, Pass,
    kernels::{gate_up_dot::GateUpDot, quantize, share::Share},
};

use super::{
    Checked,
    experts_gate_up_dot::product,
    matvec_dot::bytes_of_rows,
    norm_gate_up,
    normed::{axes, share},
    places::places,
    product::{self, Kernel, Weights},
};
use crate::{Case, Guarded, compare, fill, fill::Fill, padded};

/// The first is what GPUs use.
const SHARES: [Share; 6] = [
    GateUpDot::SHARE,
    share(32, 4),
    share(128, 2),
    share(128, 4),
    share(32, 2),
    share(64, 4),
];
/// Around the one or two outputs of a workgroup, and primes.
const D_FF: [usize; 6] = [13, 1, 2, 67, 3, 4];
/// Around the 1024 and 4096 columns of a step.
const COLS: [usize; 8] = [1088, 64, 960, 1024, 4160, 448, 4032, 2112];
/// Outputs of a case that are compared.
const MAX_OUTPUTS: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Shape {
    share: Share,
    dtype: DType,
    d_ff: usize,
    d_model: usize,
    x: Fill,
    /// What x is multiplied by: the size of the gates.
    scale: f32,
}

impl Shape {
    const fn new(share: Share, dtype: DType, [d_ff, d_model]: [usize; 2]) -> Self {
        Self {
            share,
            dtype,
            d_ff,
            d_model,
            x: Fill::Plain,
            scale: 1.0,
        }
    }

    fn case(self) -> Case {
        let Self {
            share,
            dtype,
            d_ff,
            d_model,
            x,
            scale,
        } = self;
        let name = format!(
            "workgroup {} of {} rows, {dtype} [2 x {d_ff}, {d_model}], x {x} times {scale:e}",
            share.workgroup, share.rows
        );
        Case::new("gate_up_dot", name, move |gpu| check(gpu, &self)).over(axes(false))
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in [DType::Q8, DType::Q4] {
        for (i, share) in SHARES.into_iter().enumerate() {
            for (j, d_ff) in D_FF.into_iter().enumerate() {
                let shape = Shape::new(share, dtype, [d_ff, COLS[(3 * i + j) % COLS.len()]]);
                cases.push(shape.case().quick(j < 3));
            }
        }
        for (i, x) in Fill::ALL.into_iter().enumerate().skip(1) {
            let shape = Shape::new(SHARES[i % 2], dtype, [7, 896]);
            cases.push(Shape { x, ..shape }.case().quick(true));
        }
        for (i, scale) in [0.01, 3.0, 30.0, 1e3, 1e12].into_iter().enumerate() {
            let shape = Shape::new(SHARES[i % 2], dtype, [11, 256]);
            cases.push(Shape { scale, ..shape }.case().quick(dtype == DType::Q4));
        }
    }
    // more outputs than workgroups in one dimension of a dispatch; one mode is enough
    let folded = Shape::new(SHARES[0], DType::Q8, [65_539, 64]);
    cases.push(folded.case().over(&[]).quick(true));
    cases
}

fn check(gpu: &Gpu, s: &Shape) -> Checked {
    let weights = Weights::new(gpu, &product::Shape::new(Kernel::Chosen, s.dtype, [2 * s.d_ff, s.d_model, 1]))?;
    let mut x = fill::values(s.x, 34, 1, s.d_model);
    x.iter_mut().for_each(|x| *x *= s.scale);
    let out = Guarded::new(gpu, 1, s.d_ff, Elem::F32)?;
    let mut pass = Pass::new(gpu);
    let bytes = bytes_of_rows(gpu, &mut pass, &padded(gpu, 1, s.d_model, &x)?)?;
    GateUpDot::with_share(gpu, s.dtype, s.share)?.dispatch(&mut pass, &weights.matrix, &bytes, out.out());
    pass.submit();

    let blocks = quantize::reference(&x);
    let mut all = Vec::new();
    for i in places(s.d_ff, MAX_OUTPUTS, 36) {
        let gate = product(&weights.row(gpu, i)?, &blocks);
        let up = product(&weights.row(gpu, s.d_ff + i)?, &blocks);
        all.push((i, norm_gate_up::expected(gate, up)));
    }
    compare::sampled("out", s.d_ff, &out.read_f32(gpu)?, all)
}
