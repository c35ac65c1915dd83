//! What a one-token step begins with: `out = weights[row.token]`, and the token's [`Place`] for all layers.
//!
//! Shapes: weights `[vocab, d_model]`, rows `[>= 1]`, table `[256 + n_hi, head_dim]` (as [`super::rope`]), block table `[n_slots,
//! blocks_per_slot]`, out `[1, d_model]`, place `[1, 2 + head_dim]`.

use qwgpu_shaders::{KV_BLOCK, Variant};

use super::{Handle, PerDType, rope::Paging, weights_format};
use crate::{DType, Elem, Gpu, Matrix, Pass, Result, Tensor, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Write, Access::Write];

params! { groups: u32, first_row: u32, n_rows: u32, pairs: u32, blocks_per_slot: u32, block_size: u32 }

/// Where a step's token goes in the cache, and the angles by which its heads turn. Layout of `shared/place.wgsl`.
#[derive(Clone, Debug)]
pub struct Place {
    /// Block and position in it as u32, then (cos, sin) of each pair as f32: words `[1, 2 + head_dim]`.
    pub(crate) words: Tensor,
    head_dim: usize,
}

impl Place {
    /// Room for it; [`EmbedStep::dispatch`] fills it.
    ///
    /// # Errors
    /// When the adapter has no room.
    pub fn new(gpu: &Gpu, head_dim: usize) -> Result<Self> {
        Ok(Self {
            words: Tensor::new(gpu, "place", 1, Self::words(head_dim), Elem::U32)?,
            head_dim,
        })
    }

    /// Words of four bytes that it takes.
    #[must_use]
    pub const fn words(head_dim: usize) -> usize {
        2 + head_dim
    }

    /// Elements of a head.
    #[must_use]
    pub const fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// The words as they lie in memory, u32 `[1, 2 + head_dim]`: what tests read and write.
    #[must_use]
    pub const fn as_words(&self) -> &Tensor {
        &self.words
    }
}

/// The compiled kernel.
#[derive(Debug)]
pub struct EmbedStep {
    pipelines: PerDType<Handle>,
}

impl EmbedStep {
    /// Compiles it for these weight types.
    ///
    /// # Errors
    /// When a shader does not compile.
    pub fn new(gpu: &Gpu, dtypes: &[DType]) -> Result<Self> {
        let make = |dtype| {
            gpu.pipeline(Variant::EmbedStep {
                weights: weights_format(gpu.caps(), dtype),
            })
        };
        Ok(Self {
            pipelines: PerDType::new(dtypes, make)?,
        })
    }

    /// Gathers the embedding of the first of `paging.rows` into `out` `[1, d_model]`, and works out its place.
    ///
    /// # Panics
    /// When shapes do not fit.
    #[track_caller]
    pub fn dispatch(&self, pass: &mut Pass<'_>, weights: &Matrix, table: &Tensor, paging: Paging<'_>, out: &Tensor, place: &Place) {
        assert_eq!((out.rows(), out.cols()), (1, weights.cols()), "embed_step: shape of out");
        assert!(
            paging.rows.rows() >= 1 && paging.rows.cols() == 4,
            "embed_step: rows [{}, {}]",
            paging.rows.rows(),
            paging.rows.cols()
        );
        assert_eq!(table.cols(), place.head_dim, "embed_step: columns of the table");
        let (groups, pairs) = ((weights.cols() / 8) as u32, (place.head_dim / 2) as u32);
        for part in &weights.parts {
            let params = Params {
                groups,
                first_row: part.first_row as u32,
                n_rows: part.n_rows as u32,
                pairs,
                blocks_per_slot: paging.block_table.cols() as u32,
                block_size: KV_BLOCK,
            };
            let buffers = part.bind(&[
                &paging.rows.buffer,
                &table.buffer,
                &paging.block_table.buffer,
                &out.buffer,
                &place.words.buffer,
            ]);
            let n_workgroups = groups.max(pairs).div_ceil(64);
            pass.dispatch(self.pipelines.get(weights.dtype()), &buffers, &params, [n_workgroups, 1, 1]);
        }
    }
}
