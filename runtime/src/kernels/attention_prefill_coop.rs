//! GQA flash attention of many query rows on cooperative matrices; [`super::attention::Attention`] takes it instead of
//! [`super::attention_prefill`] where the adapter and the cache allow.
//!
//! f16 queries (each row times a power of two), keys, exponentials and values; f32 scores, sums and outputs. 64 / group_size tokens
//! a workgroup.

use qwgpu_shaders::Variant;

use super::{Handle, attention::Query, attention_prefill, matmul_coop};
use crate::{Caps, Elem, Gpu, Pass, Result, Tensor};

pub(crate) use attention_prefill::BINDINGS;

params! { n_kv_heads: u32, blocks_per_slot: u32, window: u32, scale: f32 }

/// Rows of a tile: tokens times the heads of a group.
pub const TILE_ROWS: usize = 64;
const N_SUBGROUPS: u32 = 8;
/// Bytes of workgroup memory at most, with head_dim 128 and subgroups of 64.
const WORKGROUP_MEMORY: u32 = 46 << 10;

/// The size of a subgroup on an adapter that can run it.
#[must_use]
pub fn subgroup(caps: &Caps) -> Option<u32> {
    matmul_coop::subgroup_of(caps, N_SUBGROUPS, WORKGROUP_MEMORY)
}

/// The compiled kernel.
#[derive(Debug)]
pub struct AttentionPrefillCoop {
    pipeline: Handle,
}

impl AttentionPrefillCoop {
    /// Compiles it; `None` where the adapter cannot run it or the cache is not f16.
    ///
    /// # Errors
    /// When the shader does not compile.
    pub fn new(gpu: &Gpu, kv: Elem, head_dim: usize, group_size: usize) -> Result<Option<Self>> {
        let Some(subgroup) = subgroup(gpu.caps()).filter(|_| kv == Elem::F16) else {
            return Ok(None);
        };
        let variant = Variant::AttentionPrefillCoop {
            head_dim: head_dim as u32,
            group: group_size as u32,
            subgroup,
        };
        Ok(Some(Self {
            pipeline: gpu.pipeline(variant)?,
        }))
    }

    /// Into `out` `[n_tokens, n_heads * head_dim]`, with `tiles` as [`attention_prefill::tiles`] makes them for [`TILE_ROWS`].
    pub fn dispatch(&self, pass: &mut Pass<'_>, query: &Query<'_>, n_kv_heads: usize, tiles: &Tensor, out: &Tensor) {
        let params = Params {
            n_kv_heads: n_kv_heads as u32,
            blocks_per_slot: query.paging.block_table.cols() as u32,
            window: query.window.unwrap_or(0) as u32,
            scale: query.scale,
        };
        let buffers = attention_prefill::buffers(query, tiles, out);
        pass.dispatch(&self.pipeline, &buffers, &params, [tiles.rows() as u32, n_kv_heads as u32, 1]);
    }
}
