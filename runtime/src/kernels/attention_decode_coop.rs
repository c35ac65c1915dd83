//! GQA flash attention of few query rows on cooperative matrices, split over the context; [`super::attention::Attention`] takes it
//! instead of [`super::attention_decode`] where the adapter and the cache allow.
//!
//! f16 queries (each head's times a power of two), keys, exponentials and values; f32 scores, sums and outputs.

use qwgpu_shaders::Variant;

use super::{Handle, attention::Query, attention_decode, matmul_coop};
use crate::{Caps, Elem, Gpu, Pass, Result, Tensor};

pub(crate) use attention_decode::BINDINGS;

params! { n_kv_heads: u32, n_splits: u32, blocks_per_slot: u32, window: u32, scale: f32 }

/// Keys that a workgroup takes at a time, all of them under way at once.
pub const CHUNK: usize = 128;
const N_SUBGROUPS: u32 = 8;
/// Bytes of workgroup memory at most, with head_dim 128.
const WORKGROUP_MEMORY: u32 = 47 << 10;

/// The size of a subgroup on an adapter that can run it.
#[must_use]
pub fn subgroup(caps: &Caps) -> Option<u32> {
    matmul_coop::subgroup_of(caps, N_SUBGROUPS, WORKGROUP_MEMORY)
}

/// The compiled kernel.
#[derive(Debug)]
pub struct AttentionDecodeCoop {
    pipeline: Handle,
}

impl AttentionDecodeCoop {
    /// Compiles it; `None` where the adapter cannot run it or the cache is not f16.
    ///
    /// # Errors
    /// When the shader does not compile.
    pub fn new(gpu: &Gpu, kv: Elem, head_dim: usize, group_size: usize) -> Result<Option<Self>> {
        let Some(subgroup) = subgroup(gpu.caps()).filter(|_| kv == Elem::F16) else {
            return Ok(None);
        };
        let variant = Variant::AttentionDecodeCoop {
            head_dim: head_dim as u32,
            group: group_size as u32,
            subgroup,
        };
        Ok(Some(Self {
            pipeline: gpu.pipeline(variant)?,
        }))
    }

    /// As [`attention_decode::AttentionDecode::dispatch`].
    pub fn dispatch(&self, pass: &mut Pass<'_>, query: &Query<'_>, n_kv_heads: usize, n_splits: usize, partials: &Tensor, stats: &Tensor) {
        let params = Params {
            n_kv_heads: n_kv_heads as u32,
            n_splits: n_splits as u32,
            blocks_per_slot: query.paging.block_table.cols() as u32,
            window: query.window.unwrap_or(0) as u32,
            scale: query.scale,
        };
        let buffers = attention_decode::buffers(query, partials, stats);
        let grid = [n_splits as u32, n_kv_heads as u32, query.q.rows() as u32];
        pass.dispatch(&self.pipeline, &buffers, &params, grid);
    }
}
