//! Matrix products of many rows on cooperative matrices; [`super::matmul::Matmul`] chooses between it and the portable kernel.
//!
//! f16 operands, f32 sums: x goes through [`super::to_f16`] first, or comes in f16. Weights are taken as they are: one beyond 65,504 would become infinite,
//! and none of a trained model comes near. A tile of 128 x 128 outputs a workgroup on adapters that allow 512
//! invocations and 45 KB of workgroup memory, else, and where there are few tiles, 64 x 64.

use qwgpu_shaders::{CoopGrid, CoopTile, Variant};

use super::{
    Handle, PerDType,
    matmul::Product,
    to_f16::{Operand, ToF16},
    weights_format,
};
use crate::{Caps, DType, Gpu, Pass, Result, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Write];

params! { n_tokens: u32, groups: u32, n_rows: u32, first_out: u32, out_stride: u32, flags: u32 }

/// Workgroups of the large tile that a large GPU wants at least; with fewer, four times as many small ones are faster.
const ENOUGH_WORKGROUPS: usize = 64;

/// The grids that an adapter can run, the larger one first; none where it has no 16 x 16 x 16 matrices from f16 into f32, or subgroups
/// whose size is not known beforehand.
#[must_use]
pub fn grids(caps: &Caps) -> Vec<CoopGrid> {
    let tile = CoopTile::M16F16;
    let n = tile.size();
    let offered = caps
        .coop
        .iter()
        .any(|shape| (shape.m, shape.n, shape.k) == (n, n, n) && shape.operands == "f16" && shape.accumulator == "f32");
    let subgroup = caps.subgroup_max;
    if !offered || !caps.f16 || !caps.subgroup || caps.subgroup_min != subgroup || !matches!(subgroup, 32 | 64) {
        return Vec::new();
    }
    let fits = |grid: &CoopGrid| grid.workgroup() <= caps.max_invocations && grid.workgroup_memory() <= caps.workgroup_memory;
    let grids = [4, 2].map(|side| CoopGrid { tile, subgroup, side });
    grids.into_iter().filter(fits).collect()
}

/// The size of a subgroup on an adapter with matrices of [`CoopTile::M16F16`] that can run workgroups of so many subgroups and bytes.
pub(crate) fn subgroup_of(caps: &Caps, n_subgroups: u32, workgroup_memory: u32) -> Option<u32> {
    let grid = *grids(caps).first()?;
    let fits = n_subgroups * grid.subgroup <= caps.max_invocations && workgroup_memory <= caps.workgroup_memory;
    (fits && grid.tile == CoopTile::M16F16).then_some(grid.subgroup)
}

/// The kernel compiled for the weight types of a model, in every grid that the adapter can run.
#[derive(Debug)]
pub(crate) struct MatmulCoop {
    to_f16: ToF16,
    grids: Vec<(CoopGrid, PerDType<Handle>)>,
}

impl MatmulCoop {
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
            let weights = weights_format(gpu.caps(), dtype);
            gpu.pipeline(Variant::MatmulCoop {
                weights,
                grid,
                grouped: false,
            })
        };
        let compile = |&grid: &CoopGrid| Ok((grid, PerDType::new(dtypes, |dtype| pipeline(grid, dtype))?));
        Ok(Self {
            to_f16: ToF16::new(gpu)?,
            grids: grids.iter().map(compile).collect::<Result<_>>()?,
        })
    }

    fn choose(&self, n_tokens: usize, n_rows: usize) -> &(CoopGrid, PerDType<Handle>) {
        let n_tiles = |grid: CoopGrid| n_tokens.div_ceil(grid.outputs() as usize) * n_rows.div_ceil(grid.outputs() as usize);
        let enough = self.grids.iter().find(|(grid, _)| n_tiles(*grid) >= ENOUGH_WORKGROUPS);
        enough.or(self.grids.last()).expect("compiled for one grid at least")
    }

    pub(crate) fn dispatch(&self, pass: &mut Pass<'_>, product: &Product<'_>, operand: &Operand) {
        let n_tokens = product.out.rows();
        if !product.in_operand {
            self.to_f16.dispatch(pass, product.x, n_tokens, operand);
        }
        let (grid, pipelines) = self.choose(n_tokens, product.weights.rows());
        let outputs = grid.outputs() as usize;
        for part in &product.weights.parts {
            let params = Params {
                n_tokens: n_tokens as u32,
                groups: (product.weights.cols() / 8) as u32,
                n_rows: part.n_rows as u32,
                first_out: part.first_row as u32,
                out_stride: product.out.cols() as u32,
                flags: product.flags(),
            };
            let bias = product.bias.unwrap_or(&operand.scales); // not read without its flag
            let own = [&operand.values, &operand.scales, bias, product.out].map(|tensor| &*tensor.buffer);
            let buffers = part.bind(&own);
            let tiles = [part.n_rows.div_ceil(outputs) as u32, n_tokens.div_ceil(outputs) as u32, 1];
            pass.dispatch(pipelines.get(product.weights.dtype()), &buffers, &params, tiles);
        }
    }
}
