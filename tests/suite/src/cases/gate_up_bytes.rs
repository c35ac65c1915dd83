//! The first half of one token's feed-forward with its result in bytes: both quantised types, dense and of experts, sizes around every step of
//! rows and columns, stacks in parts, large gates.

use qwgpu_runtime::{
    BLOCK, DType, Elem, Gpu, Pass, Tensor,
    kernels::{
        experts_gate_up::GateUp,
        gate_up_bytes::{GateUpBytes, Normed, Of},
        quantize,
        quantize::Bytes,
        rms_norm,
    },
};

use super::{
    Checked, norm_gate_up,
    norm_qkv_rope::product_of_bytes,
    product::{self, Kernel, Source, Weights},
    slots::{self, ALL_SLOTS, MIXES, Mix, Stack, mix},
};
use crate::{
    Axis, Case,
    compare::{self, Comparison, Expected},
    fill,
    fill::Fill,
    padded,
};

/// Around the 32 outputs of a workgroup, in whole blocks as a product behind it needs them.
const D_FF: [usize; 4] = [64, 192, 320, 128];
/// Around the 1024 columns of a step, and the most that there may be.
const COLS: [usize; 8] = [1088, 64, 960, 4096, 448, 3584, 1024, 2112];
const EPS: f32 = 1e-6;
/// Half of a step of the bytes, in parts of the largest of a block, and what rounding d to f32 adds.
const HALF_STEP: f64 = 1.001 / 254.0;

#[derive(Clone, Copy, Debug)]
struct Shape {
    /// `None`: a dense network.
    mix: Option<Mix>,
    dtype: DType,
    d_ff: usize,
    d_model: usize,
    x: Fill,
    norm: Fill,
    /// What the norm is multiplied by: the size of the gates.
    scale: f32,
}

impl Shape {
    const fn new(mix: Option<Mix>, dtype: DType, [d_ff, d_model]: [usize; 2]) -> Self {
        Self {
            mix,
            dtype,
            d_ff,
            d_model,
            x: Fill::Plain,
            norm: Fill::Plain,
            scale: 1.0,
        }
    }

    fn case(self) -> Case {
        let Self {
            mix,
            dtype,
            d_ff,
            d_model,
            x,
            norm,
            scale,
        } = self;
        let whose = mix.map_or_else(|| "dense".into(), |mix| mix.to_string());
        let name = format!("{whose}, {dtype} [2 x {d_ff}, {d_model}], x {x}, norm {norm} times {scale:e}");
        let case = Case::new("gate_up_bytes", name, move |gpu| check(gpu, &self));
        case.over(if mix.is_some() {
            &[Axis::Subgroup, Axis::Binding]
        } else {
            &[Axis::Subgroup]
        })
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in [DType::Q8, DType::Q4] {
        for (i, cols) in COLS.into_iter().enumerate() {
            let shape = |mix| Shape::new(mix, dtype, [D_FF[i % D_FF.len()], cols]);
            cases.push(shape(None).case().quick(i < 3));
            cases.push(shape(Some(MIXES[i % MIXES.len()])).case().over(&[Axis::Subgroup]).quick(i < 3));
        }
        // enough workgroups to tell 32 outputs to each from 31 or 33
        let wide = Shape::new(Some(MIXES[0]), dtype, [1088, 64]);
        cases.push(wide.case().over(&[Axis::Subgroup]).quick(dtype == DType::Q4));
        // three experts to a small binding
        let split = Shape::new(Some(MIXES[0]), dtype, [64, 256 / dtype.element_bytes(2)]);
        cases.push(split.case().quick(true));
        for x in Fill::ALL.into_iter().filter(|&x| x != Fill::Plain) {
            let shape = Shape::new(None, dtype, [64, 896]);
            cases.push(Shape { x, ..shape }.case().quick(true));
            cases.push(Shape { norm: x, ..shape }.case().quick(dtype == DType::Q4));
        }
        for scale in [0.01, 3.0, 30.0, 1e3, 1e12] {
            let shape = Shape::new(None, dtype, [64, 256]);
            cases.push(Shape { scale, ..shape }.case().quick(dtype == DType::Q4));
        }
    }
    cases.push(
        Shape::new(Some(ALL_SLOTS), DType::Q4, [64, 64])
            .case()
            .over(&[Axis::Subgroup])
            .quick(true),
    );
    cases.push(
        Shape::new(Some(mix(1, 1, 0)), DType::Q8, [64, 64])
            .case()
            .over(&[Axis::Subgroup])
            .quick(true),
    );
    cases
}

/// Runs the kernel; gives the expected outputs too, slot by slot.
fn run(gpu: &Gpu, s: &Shape, normed: Normed<'_>, blocks: &[quantize::Block]) -> Result<(Bytes, Vec<Expected>), crate::Failure> {
    let n_slots = s.mix.map_or(1, Mix::n_slots);
    let hidden = Bytes::new(gpu, n_slots * s.d_ff)?;
    let mut pass = Pass::new(gpu);
    let kernel = GateUpBytes::new(gpu, &[s.dtype], if s.mix.is_some() { Of::Experts } else { Of::Dense })?;
    let pair = |gate: &[f32], up: &[f32]| {
        let [gate, up] = [gate, up].map(|row| product_of_bytes(row, blocks, 0.0));
        norm_gate_up::expected(gate, up)
    };
    let mut expected = Vec::new();
    if let Some(mix) = s.mix {
        let stack = Stack::new(
            gpu,
            slots::Shape {
                mix,
                dtype: s.dtype,
                rows: 2 * s.d_ff,
                cols: s.d_model,
                weights: Source::Host(Fill::Plain),
            },
        )?;
        let out = Tensor::new(gpu, "shape of the hidden activations", n_slots, s.d_ff, Elem::F32)?;
        let operands = GateUp {
            experts: &stack.matrix,
            n_experts: mix.n_experts,
            n_shared: mix.n_shared,
            x: normed.x,
            norm: normed.norm,
            eps: normed.eps,
            chosen: &mix.chosen_tensor(gpu)?,
            out: &out,
        };
        kernel.dispatch_experts(&mut pass, &operands, &hidden);
        pass.submit();
        for slot in 0..n_slots {
            for i in 0..s.d_ff {
                expected.push(pair(&stack.row(gpu, slot, i)?, &stack.row(gpu, slot, s.d_ff + i)?));
            }
        }
    } else {
        let weights = Weights::new(gpu, &product::Shape::new(Kernel::Chosen, s.dtype, [2 * s.d_ff, s.d_model, 1]))?;
        kernel.dispatch(&mut pass, &weights.matrix, normed, &hidden);
        pass.submit();
        for i in 0..s.d_ff {
            expected.push(pair(&weights.row(gpu, i)?, &weights.row(gpu, s.d_ff + i)?));
        }
    }
    Ok((hidden, expected))
}

fn check(gpu: &Gpu, s: &Shape) -> Checked {
    let x = fill::values(s.x, 34, 1, s.d_model);
    let mut norm = fill::values(s.norm, 35, 1, s.d_model);
    norm.iter_mut().for_each(|weight| *weight *= s.scale);
    let normed: Vec<f32> = rms_norm::reference(&x, &norm, EPS).into_iter().map(|value| value as f32).collect();
    let operands = Normed {
        x: &padded(gpu, 1, s.d_model, &x)?,
        norm: &padded(gpu, 1, s.d_model, &norm)?,
        eps: EPS,
    };
    let (hidden, expected) = run(gpu, s, operands, &quantize::reference(&normed))?;
    let (words, scales) = hidden.read(gpu)?;
    let bytes: Vec<i8> = words.iter().flat_map(|word| word.to_le_bytes()).map(|byte| byte as i8).collect();
    let mut values = Comparison::new("hidden", s.d_ff);
    let mut sums = Vec::new();
    for (block, expected) in expected.chunks_exact(BLOCK).enumerate() {
        let (d, q) = (scales[2 * block], &bytes[BLOCK * block..][..BLOCK]);
        let largest = expected.iter().fold(0.0, |largest: f64, e| largest.max(e.value.abs() + e.bound));
        for (i, (&q, e)) in q.iter().zip(expected).enumerate() {
            let bound = e.bound + largest * HALF_STEP + 1e-30;
            values.add(BLOCK * block + i, d * f32::from(q), Expected { bound, ..*e });
        }
        sums.push(d * q.iter().map(|&q| i32::from(q)).sum::<i32>() as f32);
    }
    let seconds: Vec<f32> = scales.chunks_exact(2).map(|pair| pair[1]).collect();
    Ok(values
        .finish()?
        .and(compare::exact("d times the sum of q", sums.len(), &seconds[..sums.len()], &sums)?))
}
