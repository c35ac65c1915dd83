//! What the cases of one token's experts share: a stack in which only the experts of the token's slots hold numbers.

use std::borrow::Cow;

use qwgpu_runtime::{DType, Gpu, Matrix, Pass, Tensor, kernels::fill_random::FillRandom, narrow, stored};

use super::product::Source;
use crate::{Axis, Failure, Mode, fill};

/// Experts, how many of them are chosen, and slices of the shared one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mix {
    pub(super) n_experts: usize,
    pub(super) k: usize,
    pub(super) n_shared: usize,
}

pub(super) const fn mix(n_experts: usize, k: usize, n_shared: usize) -> Mix {
    Mix { n_experts, k, n_shared }
}

/// Few and many, one alone, all of them, none shared, more shared than chosen.
pub(super) const MIXES: [Mix; 7] = [
    mix(8, 2, 3),
    mix(4, 4, 1),
    mix(16, 1, 2),
    mix(10, 3, 0),
    mix(1, 1, 0),
    mix(5, 4, 4),
    mix(3, 1, 5),
];

/// As many slots as there may be.
pub(super) const ALL_SLOTS: Mix = mix(256, 256, 64);

impl Mix {
    pub(super) const fn n_slots(self) -> usize {
        self.k + self.n_shared
    }

    /// The chosen experts, in no order.
    pub(super) fn chosen(self) -> Vec<u32> {
        let mut order = fill::permutation(60, self.n_experts);
        order.truncate(self.k);
        order
    }

    /// The same as kernels take them, with ids behind them that no expert has.
    pub(super) fn chosen_tensor(self, gpu: &Gpu) -> qwgpu_runtime::Result<Tensor> {
        let mut ids = self.chosen();
        ids.resize(2 * self.k, u32::MAX);
        Ok(Tensor::from_u32(gpu, "chosen", 2, self.k, &ids)?.narrow(1))
    }

    /// The expert of each slot, as it stands in the stack.
    fn experts(self) -> Vec<usize> {
        let shared = (0..self.n_shared).map(|slice| self.n_experts + slice);
        self.chosen().into_iter().map(|id| id as usize).chain(shared).collect()
    }
}

impl std::fmt::Display for Mix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} experts and {} shared", self.k, self.n_experts, self.n_shared)
    }
}

/// A stack of experts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) mix: Mix,
    pub(super) dtype: DType,
    /// Rows of one expert.
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) weights: Source,
}

impl Shape {
    /// Whether a small binding splits it, and holds an expert, and the activations with their guard.
    fn splits(&self) -> bool {
        let each = self.dtype.element_bytes(self.rows * self.cols) as u64;
        let n = (self.mix.n_experts + self.mix.n_shared) as u64;
        let activations = 4 * (self.mix.n_slots() + 2) * self.cols.max(self.rows);
        each.max(activations as u64) <= Mode::SMALL_BINDING && n * each > Mode::SMALL_BINDING
    }

    /// What decides the text of a kernel that takes it, and how often it is dispatched.
    pub(super) fn axes(&self) -> &'static [Axis] {
        use Axis::{Binding, F16, Subgroup};
        match (self.dtype == DType::F16, self.splits()) {
            (false, false) => &[Subgroup],
            (true, false) => &[Subgroup, F16],
            (false, true) => &[Subgroup, Binding],
            (true, true) => &[Subgroup, F16, Binding],
        }
    }
}

/// A stack on the device, and the way to know it.
pub(super) struct Stack {
    pub(super) matrix: Matrix,
    shape: Shape,
    experts: Vec<usize>,
    /// `[rows, cols]` of each slot's expert, if the host has made them.
    host: Option<Vec<Vec<f32>>>,
}

impl Stack {
    pub(super) fn new(gpu: &Gpu, shape: Shape) -> Result<Self, Failure> {
        let Shape {
            mix, dtype, rows, cols, ..
        } = shape;
        let n = mix.n_experts + mix.n_shared;
        let matrix = Matrix::stack(gpu, "experts", n, rows, cols, dtype)?;
        let experts = mix.experts();
        let host = match shape.weights {
            Source::Host(fill) => {
                let nan = narrow(DType::F32, &vec![f32::NAN; rows * cols]);
                for expert in (0..n).filter(|expert| !experts.contains(expert)) {
                    matrix.write_rows(gpu, expert * rows, DType::F32, &nan)?;
                }
                let slot = |&expert: &usize| -> Result<Vec<f32>, Failure> {
                    let values = fill::values(fill, 61 + expert as u64, rows, cols);
                    matrix.write_rows(gpu, expert * rows, DType::F32, &narrow(DType::F32, &values))?;
                    Ok(stored(dtype, &values))
                };
                Some(experts.iter().map(slot).collect::<Result<_, _>>()?)
            }
            Source::Device => {
                let mut pass = Pass::new(gpu);
                FillRandom::new(gpu)?.dispatch(&mut pass, &matrix, 61, 0.05);
                pass.submit();
                None
            }
        };
        Ok(Self {
            matrix,
            shape,
            experts,
            host,
        })
    }

    /// Row `r` of a slot's expert.
    pub(super) fn row(&self, gpu: &Gpu, slot: usize, r: usize) -> Result<Cow<'_, [f32]>, Failure> {
        let Shape { rows, cols, .. } = self.shape;
        match &self.host {
            Some(slots) => Ok(Cow::Borrowed(&slots[slot][r * cols..][..cols])),
            None => Ok(Cow::Owned(self.matrix.read_row(gpu, self.experts[slot] * rows + r)?)),
        }
    }
}
