//! The choice of experts: logits against f64; ids against the order of the logits that the adapter itself has left; factors against their
//! softmax; counters.

use qwgpu_runtime::{
    DType, Elem, Gpu, Matrix, Pass,
    kernels::{
        router::{self, Router, Routing},
        topk::key,
    },
    narrow,
};

use super::{Checked, normed::Normed};
use crate::{
    Axis, Case, Guarded, Outcome,
    compare::{self, EPS32, Expected, TINY},
    fill,
    fill::Fill,
    padded,
};

/// Experts and k: around the 8 and 24 rows that the teams of a workgroup take at once, one of them the gate's, those of the models, all of
/// them chosen, and one.
const EXPERTS: [(usize, usize); 18] = [
    (8, 2),
    (64, 8),
    (60, 4),
    (256, 8),
    (10, 3),
    (16, 4),
    (1, 1),
    (7, 7),
    (9, 1),
    (15, 15),
    (17, 5),
    (64, 64),
    (255, 1),
    (256, 256),
    (60, 1),
    (23, 5),
    (24, 3),
    (47, 47),
];
/// Around the 128 columns that a team takes at once, and the models' widths.
const D_MODEL: [usize; 8] = [264, 8, 136, 1024, 64, 2048, 120, 3584];
/// Around the 8 of a workgroup.
const TOKENS: [usize; 5] = [1, 3, 34, 8, 9];
const N_LAYERS: usize = 3;

/// What is particular about the rows of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rows {
    Filled(Fill),
    /// Three different ones, so that most logits are ties.
    Equal,
    /// Every fourth one NaN, by turns with all bits set.
    Nan,
    /// Their logits are ties or one or a few units in the last place apart.
    Neighbours,
    /// That of the shared gate is far beyond the others.
    LargeGate,
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kernel {
    Many,
    Decode,
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    kernel: Kernel,
    n_experts: usize,
    k: usize,
    d_model: usize,
    n_tokens: usize,
    normalise: bool,
    rows: Rows,
    x: Fill,
    norm: Fill,
    /// What the norm's weights are multiplied by: the size of the logits.
    scale: f32,
    layer: usize,
}

impl Shape {
    fn case(self) -> Case {
        let Self {
            n_experts,
            k,
            d_model,
            n_tokens,
            ..
        } = self;
        let normalise = if self.normalise { ", normalised" } else { "" };
        let name = format!(
            "{k} of {n_experts} experts, [{n_tokens}, {d_model}]{normalise}, rows {:?}, x {}, norm {} times {:e}",
            self.rows, self.x, self.norm, self.scale
        );
        match self.kernel {
            Kernel::Many => Case::new("router", name, move |gpu| check(gpu, &self)),
            Kernel::Decode => Case::new("router_decode", name, move |gpu| check(gpu, &self)).over(&[Axis::Subgroup]),
        }
    }
}

pub(super) fn cases() -> Vec<Case> {
    cases_of(Kernel::Many, &D_MODEL, &TOKENS)
}

/// Every number of experts with each number of tokens, and hard values with the second of these.
pub(super) fn cases_of(kernel: Kernel, widths: &[usize], tokens: &[usize]) -> Vec<Case> {
    let mut cases = Vec::new();
    for (i, (n_experts, k)) in EXPERTS.into_iter().enumerate() {
        for (j, n_tokens) in tokens.iter().copied().enumerate() {
            let shape = Shape {
                kernel,
                n_experts,
                k,
                d_model: widths[(i + 3 * j) % widths.len()],
                n_tokens,
                normalise: (i + j) % 2 == 1,
                rows: Rows::Filled(Fill::Plain),
                x: Fill::Plain,
                norm: Fill::Plain,
                scale: 1.0,
                layer: (i + j) % N_LAYERS,
            };
            let few = n_experts * n_tokens < 1024;
            cases.push(shape.case().quick(few && (j == 1 || (i + j) % 3 == 0)));
            if j == 1 {
                // ties among few and many, all of it among few
                let hard = hard_values(shape).into_iter().enumerate();
                cases.extend(hard.map(|(h, case)| case.quick(n_experts == 16 || h == 0 && i < 4)));
            }
        }
    }
    cases
}

/// Ties, NaN, each kind of value, and logits from all alike to far beyond the range of exp.
fn hard_values(shape: Shape) -> Vec<Case> {
    let mut shapes: Vec<Shape> = [Rows::Equal, Rows::Nan, Rows::Neighbours, Rows::LargeGate]
        .map(|rows| Shape { rows, ..shape })
        .into();
    for fill in Fill::ALL.into_iter().filter(|&fill| fill != Fill::Plain) {
        shapes.push(Shape {
            rows: Rows::Filled(fill),
            ..shape
        });
        shapes.push(Shape { x: fill, ..shape });
        shapes.push(Shape { norm: fill, ..shape });
    }
    for scale in [0.01, 10.0, 1e3, 1e4] {
        let shape = Shape { scale, ..shape };
        shapes.extend([false, true].map(|normalise| Shape { normalise, ..shape }));
    }
    shapes.into_iter().map(Shape::case).collect()
}

/// The matrix, `[n_experts + 1, d_model]`.
fn matrix(s: &Shape) -> Vec<f32> {
    let fill = if let Rows::Filled(fill) = s.rows { fill } else { Fill::Plain };
    let mut values = fill::values(fill, 70, s.n_experts + 1, s.d_model);
    for expert in 0..s.n_experts {
        let row = expert * s.d_model;
        match s.rows {
            Rows::Equal => values.copy_within(expert % 3 * s.d_model..(expert % 3 + 1) * s.d_model, row),
            Rows::Nan if expert % 8 == 1 => values[row..][..s.d_model].fill(f32::NAN),
            Rows::Nan if expert % 8 == 5 => values[row..][..s.d_model].fill(f32::from_bits(u32::MAX)),
            Rows::Neighbours => {
                values[row..][..s.d_model].fill(0.0);
                values[row] = 1.0 + (fill::hash(74, expert as u64) % 16) as f32 * f32::EPSILON;
            }
            _ => {}
        }
    }
    if s.rows == Rows::LargeGate {
        values[s.n_experts * s.d_model..].iter_mut().for_each(|weight| *weight *= 1e3);
    }
    values
}

fn check(gpu: &Gpu, s: &Shape) -> Checked {
    let (n_logits, eps) = (s.n_experts + 1, 1e-6);
    let rows = matrix(s);
    let whole = Matrix::new(gpu, "router", n_logits + 1, s.d_model, DType::F32)?;
    whole.write_rows(gpu, 0, DType::F32, &narrow(DType::F32, &rows))?;
    whole.write_rows(gpu, n_logits, DType::F32, &narrow(DType::F32, &vec![f32::NAN; s.d_model]))?;
    let x = fill::values(s.x, 71, s.n_tokens, s.d_model);
    let mut norm = fill::values(s.norm, 72, 1, s.d_model);
    norm.iter_mut().for_each(|weight| *weight *= s.scale);
    let logits = Guarded::new(gpu, s.n_tokens, n_logits, Elem::F32)?;
    let chosen = Guarded::new(gpu, s.n_tokens, s.k, Elem::U32)?;
    let factors = Guarded::new(gpu, s.n_tokens, s.k + 1, Elem::F32)?;
    let usage = Guarded::new(gpu, N_LAYERS, s.n_experts, Elem::U32)?;
    let mut counts: Vec<u32> = (0..(N_LAYERS * s.n_experts) as u64).map(|i| fill::hash(73, i) % 1000).collect();
    usage.out().write(gpu, &counts);
    let kernel = Router::new(gpu)?;
    let mut pass = Pass::new(gpu);
    let routing = Routing {
        weights: &whole.narrow(n_logits),
        x: &padded(gpu, s.n_tokens, s.d_model, &x)?,
        norm: &padded(gpu, 1, s.d_model, &norm)?,
        eps,
        normalise: s.normalise,
        logits: logits.out(),
        chosen: chosen.out(),
        factors: factors.out(),
        usage: usage.out(),
        layer: s.layer,
    };
    let n_dispatches = match s.kernel {
        Kernel::Many => {
            kernel.dispatch_many(&mut pass, &routing);
            1
        }
        // twice: the first one has to leave what the second one expects
        Kernel::Decode => {
            kernel.dispatch_decode(&mut pass, &routing);
            kernel.dispatch_decode(&mut pass, &routing);
            2
        }
    };
    pass.submit();

    let logits = logits.read_f32(gpu)?;
    let tokens = x.chunks_exact(s.d_model).enumerate();
    let expected = tokens.flat_map(|(t, x)| expected_logits(s, &rows, x, &norm, eps).map(move |(i, logit)| (t * n_logits + i, logit)));
    let mut outcome = compare::sampled("logits", n_logits, &logits, expected.collect::<Vec<_>>())?;
    let choices = logits
        .chunks_exact(n_logits)
        .map(|logits| router::reference(logits, s.k, s.normalise));
    let choices: Vec<_> = choices.collect();
    let ids: Vec<u32> = choices.iter().flat_map(|choice| choice.experts.clone()).collect();
    outcome = outcome.and(compare::exact("chosen", s.k, &chosen.read_u32(gpu)?, &ids)?);
    ids.iter()
        .for_each(|&id| counts[s.layer * s.n_experts + id as usize] += n_dispatches);
    outcome = outcome.and(compare::exact("usage", s.n_experts, &usage.read_u32(gpu)?, &counts)?);
    let factors = factors.read_f32(gpu)?;
    Ok(outcome.and(check_factors(s, &logits, &choices, &factors)?))
}

/// The logits of one token that are numbers, with their places.
fn expected_logits<'a>(
    s: &Shape,
    rows: &'a [f32],
    x: &'a [f32],
    norm: &'a [f32],
    eps: f32,
) -> impl Iterator<Item = (usize, Expected)> + use<'a> {
    let normed = Normed::new(x, norm, eps);
    let values = router::logits(rows, x, norm, eps);
    let with_bound = move |(i, (row, value)): (usize, (&[f32], f64))| {
        let Expected { bound, .. } = normed.product(DType::F32, row, 0.0);
        (i, Expected { value, bound })
    };
    let rows = rows.chunks_exact(s.d_model);
    let all = rows.zip(values).enumerate().map(with_bound);
    all.filter(|(_, expected)| !expected.value.is_nan())
}

/// Factors against the softmax of the adapter's own logits; among NaN they are undefined.
fn check_factors(s: &Shape, logits: &[f32], choices: &[router::Choice], factors: &[f32]) -> Checked {
    if s.rows == Rows::Nan {
        return Ok(Outcome::default());
    }
    let tokens = logits.chunks_exact(s.n_experts + 1).zip(choices);
    let expected = tokens.flat_map(|(logits, choice)| expected_factors(s, logits, choice));
    compare::elements("factors", s.k + 1, factors, expected)
}

fn expected_factors(s: &Shape, logits: &[f32], choice: &router::Choice) -> Vec<Expected> {
    let (gate, of_experts) = logits.split_last().expect("the gate has a logit");
    let largest = of_experts
        .iter()
        .copied()
        .max_by_key(|&logit| key(logit))
        .expect("there is an expert");
    // of a weight e^(logit - largest): the difference is rounded, and so is exp
    let relative = |logit: f32| {
        let below = f64::from(logit) - f64::from(largest);
        compare::exp_error(below) + EPS32 * below.abs()
    };
    let weight = |logit: f32| (f64::from(logit) - f64::from(largest)).exp();
    let (mut sum, mut off) = (0.0, 0.0);
    for &logit in of_experts {
        sum += weight(logit);
        off += weight(logit) * relative(logit);
    }
    let of_sum = if s.normalise {
        let chosen = || choice.experts.iter().map(|&expert| of_experts[expert as usize]);
        chosen().map(|logit| weight(logit) * relative(logit)).sum::<f64>() / chosen().map(weight).sum::<f64>()
    } else {
        off / sum
    };
    let of_sum = of_sum + compare::sum_bound(s.n_experts, 1.0);
    let experts = choice.experts.iter().zip(&choice.factors).map(|(&expert, &value)| Expected {
        value,
        bound: value * (relative(of_experts[expert as usize]) + of_sum) + TINY,
    });
    let mut all: Vec<Expected> = experts.collect();
    let value = choice.factors[s.k];
    let of_gate = compare::exp_error(f64::from(*gate).clamp(-80.0, 80.0)) + compare::sum_bound(2, 1.0);
    // the kernel stops at e^-80, where the definition goes on to zero
    all.push(Expected {
        value,
        bound: value * of_gate + 1.001 * (-80f64).exp(),
    });
    all
}
