//! Matrix products with a stack of experts, each expert's matrix with the rows that chose it: for each pair (token, slot) of expert e,
//! `out[., r] = sum_k weights[e * rows_each + r, k] * x[., k]`.
//!
//! [`Direction`] says which rows of x and out a pair stands for. Shapes: weights `[n_stack * rows_each, cols]`, see [`Matrix::stack`];
//! x `[n_tokens, cols]` or `[n_tokens * n_slots, cols]`; out `[n_tokens * n_slots, rows_each]`. The kernels are those of
//! [`super::matmul`] with another part that finds rows: on matrix units where the adapter has some, else in tiles of 64 x 64 outputs.
//! A grid has tiles for an expert that every token has chosen, since the host does not know how many have; workgroups without rows
//! leave at once.

use qwgpu_shaders::{CoopGrid, Variant};

use super::{
    Handle, PerDType, group_experts::Groups, matmul::TILE, matmul_experts_coop::MatmulExpertsCoop, to_f16::Operand, weights_format,
};
use crate::{DType, Gpu, Matrix, Pass, Result, Tensor, matrix::Part, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Write];

params! { groups: u32, n_rows: u32, first_expert: u32, n_slots: u32, gather: u32 }

/// Which rows a pair of an expert's list stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Reads the token's row of x, and writes the row at the pair's place in the list: out is in order of expert.
    Gather,
    /// Reads the row of x at the pair's place in the list, and writes row `token * n_slots + slot`: out is in order of token.
    Scatter,
}

/// One product, as both kernels take it.
#[derive(Clone, Copy, Debug)]
pub struct ExpertsProduct<'a> {
    /// The stack, `[n_stack * rows_each, cols]`.
    pub weights: &'a Matrix,
    /// Rows of one expert.
    pub rows_each: usize,
    /// `[n_tokens, cols]` to gather, `[n_tokens * n_slots, cols]` to scatter; more rows are not read.
    pub x: &'a Tensor,
    /// Which rows each expert takes, as [`super::group_experts`] has left them for `n_tokens` tokens.
    pub groups: &'a Groups,
    /// Tokens.
    pub n_tokens: usize,
    /// Which rows a pair stands for.
    pub direction: Direction,
    /// `[n_tokens * n_slots, rows_each]`; more rows are left alone.
    pub out: &'a Tensor,
    /// Where x may be put in f16 for the matrix units; without it they are not used.
    pub operand: Option<&'a Operand>,
    /// Whether the operand holds x already, from a kernel that leaves its result there: of x itself only the shape counts then, and the
    /// product goes to the matrix units.
    pub in_operand: bool,
}

impl ExpertsProduct<'_> {
    /// Rows of out.
    pub(crate) const fn n_pairs(&self) -> usize {
        self.n_tokens * self.groups.n_slots()
    }

    /// Rows of x.
    pub(crate) const fn n_x(&self) -> usize {
        match self.direction {
            Direction::Gather => self.n_tokens,
            Direction::Scatter => self.n_pairs(),
        }
    }

    #[track_caller]
    pub(crate) fn check(&self) {
        let (weights, n_stack) = (self.weights, self.groups.n_stack());
        assert!(
            weights.rows() == n_stack * self.rows_each,
            "matmul_experts: {} rows of weights for {n_stack} experts of {}",
            weights.rows(),
            self.rows_each
        );
        assert!(
            weights.parts.iter().all(|part| part.n_rows.is_multiple_of(self.rows_each)),
            "matmul_experts: the weights' parts do not hold whole experts of {} rows",
            self.rows_each
        );
        assert!(
            self.x.cols() == weights.cols() && self.x.rows() >= self.n_x(),
            "matmul_experts: x is [{}, {}], not [{}, {}]",
            self.x.rows(),
            self.x.cols(),
            self.n_x(),
            weights.cols()
        );
        assert!(
            self.out.cols() == self.rows_each && self.out.rows() >= self.n_pairs(),
            "matmul_experts: out is [{}, {}], not [{}, {}]",
            self.out.rows(),
            self.out.cols(),
            self.n_pairs(),
            self.rows_each
        );
        assert!(
            self.groups.pairs.rows() >= self.n_tokens,
            "matmul_experts: {} tokens, groups for {}",
            self.n_tokens,
            self.groups.pairs.rows()
        );
    }

    pub(crate) fn params(&self, part: &Part) -> Params {
        Params {
            groups: (self.weights.cols() / 8) as u32,
            n_rows: self.rows_each as u32,
            first_expert: (part.first_row / self.rows_each) as u32,
            n_slots: self.groups.n_slots() as u32,
            gather: u32::from(self.direction == Direction::Gather),
        }
    }

    /// Workgroups for a part of the weights, in tiles of `tile` rows of each side.
    pub(crate) const fn grid(&self, part: &Part, tile: usize) -> [u32; 3] {
        let n_experts = part.n_rows / self.rows_each;
        [
            self.rows_each.div_ceil(tile) as u32,
            self.n_tokens.div_ceil(tile) as u32,
            n_experts as u32,
        ]
    }
}

fn tiled(gpu: &Gpu, dtype: DType) -> Result<Handle> {
    gpu.pipeline(Variant::Matmul {
        weights: weights_format(gpu.caps(), dtype),
        grouped: true,
    })
}

/// Both kernels, compiled for the weight types of a model.
#[derive(Debug)]
pub struct MatmulExperts {
    tiled: PerDType<Handle>,
    coop: Option<MatmulExpertsCoop>,
}

impl MatmulExperts {
    /// Compiles them.
    ///
    /// # Errors
    /// When a shader does not compile.
    pub fn new(gpu: &Gpu, dtypes: &[DType]) -> Result<Self> {
        Ok(Self {
            tiled: PerDType::new(dtypes, |dtype| tiled(gpu, dtype))?,
            coop: MatmulExpertsCoop::new(gpu, dtypes)?,
        })
    }

    /// Compiles the tiled kernel alone, for [`MatmulExperts::dispatch_tiled`].
    ///
    /// # Errors
    /// As [`MatmulExperts::new`].
    pub fn tiled_only(gpu: &Gpu, dtype: DType) -> Result<Self> {
        Ok(Self {
            tiled: PerDType::new(&[dtype], |dtype| tiled(gpu, dtype))?,
            coop: None,
        })
    }

    /// Compiles the kernel for matrix units alone, for one of [`super::matmul_coop::grids`].
    ///
    /// # Errors
    /// As [`MatmulExperts::new`].
    pub fn coop_only(gpu: &Gpu, dtype: DType, grid: CoopGrid) -> Result<Self> {
        Ok(Self {
            tiled: PerDType::new(&[], |dtype| tiled(gpu, dtype))?,
            coop: Some(MatmulExpertsCoop::of(gpu, &[dtype], &[grid])?),
        })
    }

    /// Whether products go to the matrix units, with x rounded to f16.
    #[must_use]
    pub const fn has_coop(&self) -> bool {
        self.coop.is_some()
    }

    /// The product, on matrix units where there are some and it has an operand.
    ///
    /// # Panics
    /// When shapes do not fit.
    #[track_caller]
    pub fn dispatch(&self, pass: &mut Pass<'_>, product: &ExpertsProduct<'_>) {
        assert!(!product.in_operand || self.has_coop(), "matmul_experts: x in an operand");
        if product.operand.is_some() && self.coop.is_some() {
            self.dispatch_coop(pass, product);
        } else {
            self.dispatch_tiled(pass, product);
        }
    }

    /// The kernel for matrix units; for tests.
    ///
    /// # Panics
    /// When shapes do not fit, the product has no operand, or the adapter has no matrix units.
    #[track_caller]
    pub fn dispatch_coop(&self, pass: &mut Pass<'_>, product: &ExpertsProduct<'_>) {
        product.check();
        let coop = self.coop.as_ref().expect("the adapter has matrix units");
        coop.dispatch(pass, product, product.operand.expect("the product has an operand"));
    }

    /// The tiled kernel; tests compare the two.
    ///
    /// # Panics
    /// When shapes do not fit.
    #[track_caller]
    pub fn dispatch_tiled(&self, pass: &mut Pass<'_>, product: &ExpertsProduct<'_>) {
        product.check();
        let groups = product.groups;
        let own = [product.x, &groups.pairs, &groups.offsets, product.out].map(|tensor| &*tensor.buffer);
        for part in &product.weights.parts {
            let pipeline = self.tiled.get(product.weights.dtype());
            pass.dispatch(pipeline, &part.bind(&own), &product.params(part), product.grid(part, TILE));
        }
    }
}

/// The definition of a pair's rows, given its place in the list of all: a row of x, and the row of out that
/// [`super::matmul::reference`] makes of it with each row of the expert's matrix.
#[must_use]
pub const fn reference(direction: Direction, pair: usize, place: usize, n_slots: usize) -> (usize, usize) {
    match direction {
        Direction::Gather => (pair / n_slots, place),
        Direction::Scatter => (place, pair),
    }
}
