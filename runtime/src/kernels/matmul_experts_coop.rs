//! Matrix products with a stack of experts on cooperative matrices; [`super::matmul_experts::MatmulExperts`] chooses between it and the
//! portable kernel.
//!
//! As in [`super::matmul_coop`], x goes through [`super::to_f16`] first or comes in f16: to gather, once for each token. Tiles are as large
//! as the rows that experts have on average fill, since each expert leaves one that is not full.

use qwgpu_shaders::{CoopGrid, Variant};

use super::{
    Handle, PerDType,
    matmul_coop::grids,
    matmul_experts::ExpertsProduct,
    to_f16::{Operand, ToF16},
    weights_format,
};
use crate::{DType, Gpu, Pass, Result, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Read, Access::Write];

/// The kernel compiled for the weight types of a model, in every grid that the adapter can run.
#[derive(Debug)]
pub(crate) struct MatmulExpertsCoop {
    to_f16: ToF16,
    /// The larger one first.
    grids: Vec<(CoopGrid, PerDType<Handle>)>,
}

impl MatmulExpertsCoop {
    /// Compiles it; `None` where the adapter cannot run it.
    pub(crate) fn new(gpu: &Gpu, dtypes: &[DType]) -> Result<Option<Self>> {
        let grids = grids(gpu.caps());
        if grids.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self::of(gpu, dtypes, &grids)?))
    }

    /// Compiles it for these grids alone.
    pub(crate) fn of(gpu: &Gpu, dtypes: &[DType], grids: &[CoopGrid]) -> Result<Self> {
        let pipeline = |grid: CoopGrid, dtype: DType| {
            gpu.pipeline(Variant::MatmulCoop {
                weights: weights_format(gpu.caps(), dtype),
                grid,
                grouped: true,
            })
        };
        let compile = |&grid: &CoopGrid| Ok((grid, PerDType::new(dtypes, |dtype| pipeline(grid, dtype))?));
        Ok(Self {
            to_f16: ToF16::new(gpu)?,
            grids: grids.iter().map(compile).collect::<Result<_>>()?,
        })
    }

    /// The largest tile that an expert with the average number of rows fills, else the smallest.
    fn choose(&self, n_pairs: usize, n_stack: usize) -> &(CoopGrid, PerDType<Handle>) {
        let full = self.grids.iter().find(|(grid, _)| n_pairs >= grid.outputs() as usize * n_stack);
        full.or(self.grids.last()).expect("compiled for one grid at least")
    }

    pub(crate) fn dispatch(&self, pass: &mut Pass<'_>, product: &ExpertsProduct<'_>, operand: &Operand) {
        if !product.in_operand {
            self.to_f16.dispatch(pass, product.x, product.n_x(), operand);
        }
        let groups = product.groups;
        let (grid, pipelines) = self.choose(product.n_pairs(), groups.n_stack());
        let own = [&operand.values, &operand.scales, &groups.pairs, &groups.offsets, product.out].map(|tensor| &*tensor.buffer);
        for part in &product.weights.parts {
            let tiles = product.grid(part, grid.outputs() as usize);
            let pipeline = pipelines.get(product.weights.dtype());
            pass.dispatch(pipeline, &part.bind(&own), &product.params(part), tiles);
        }
    }
}
