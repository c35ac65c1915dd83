//! What the benchmarks of one token's experts share: mixtures, and a layer of one in memory.
//!
//! All copies take from one stack, each other experts of it, so that caches hold few of them; the slices of the shared expert are the
//! same in each.

use std::sync::Arc;

use qwgpu_runtime::{DType, Gpu, Matrix, Pass, Result, Tensor, kernels::fill_random::FillRandom};

use super::{data, shapes};
use crate::fill;

/// What decides the shapes of a mixture's kernels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mixture {
    pub(super) name: &'static str,
    pub(super) d_model: usize,
    pub(super) n_experts: usize,
    /// Experts that a token chooses.
    pub(super) k: usize,
    /// Width of an expert.
    pub(super) d_ff: usize,
    /// Slices of that width in the shared expert.
    pub(super) n_shared: usize,
}

const fn mixture(name: &'static str, d_model: usize, [n_experts, k]: [usize; 2], [d_ff, shared]: [usize; 2]) -> Mixture {
    Mixture {
        name,
        d_model,
        n_experts,
        k,
        d_ff,
        n_shared: shared / d_ff,
    }
}

/// Qwen2's mixture of experts, and that of Qwen1.5.
pub(super) const MIXTURES: [Mixture; 2] = [
    mixture("57B-A14B", 3584, [64, 8], [2560, 20_480]),
    mixture("A2.7B", 2048, [60, 4], [1408, 5632]),
];

impl Mixture {
    /// The mixtures to measure. A CPU driver gets the smaller one, with few and narrow experts.
    pub(super) fn all(gpu: &Gpu) -> Vec<Self> {
        if !gpu.caps().cpu {
            return MIXTURES.into();
        }
        let [.., small] = MIXTURES;
        vec![Self {
            n_experts: 6,
            d_ff: shapes::cut(gpu, small.d_ff) / 4,
            ..small
        }]
    }

    pub(super) const fn n_slots(&self) -> usize {
        self.k + self.n_shared
    }

    /// All experts of a layer in one matrix of random weights, `rows` of `cols` each.
    pub(super) fn stack(&self, gpu: &Gpu, rows: usize, cols: usize, dtype: DType) -> Result<Matrix> {
        let matrix = Matrix::stack(gpu, "experts", self.n_experts + self.n_shared, rows, cols, dtype)?;
        let mut pass = Pass::new(gpu);
        FillRandom::new(gpu)?.dispatch(&mut pass, &matrix, 1, 0.03);
        pass.submit();
        gpu.wait()?;
        Ok(matrix)
    }

    /// The experts that the token of each copy has chosen: neighbouring copies share none as long as there are enough.
    pub(super) fn chosen(&self, gpu: &Arc<Gpu>, copies: usize) -> Result<Vec<Tensor>> {
        let order = fill::permutation(3, self.n_experts);
        let ids = |i: usize| (0..self.k).map(|slot| order[(i * self.k + slot) % self.n_experts]).collect();
        data::words(gpu, copies, [1, self.k], ids)
    }
}
