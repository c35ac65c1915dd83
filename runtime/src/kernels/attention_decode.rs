//! GQA flash attention of few query rows, split over the context so that long contexts fill the GPU.
//!
//! Each (split, kv head, row) leaves an unnormalised output with its running maximum and sum; [`super::attention_merge`] joins them
//! (Dao et al. 2023, flash-decoding). A single split leaves the output itself.

use qwgpu_shaders::Variant;

use super::{Handle, attention::Query, kv_format};
use crate::{Elem, Gpu, Pass, Result, Tensor, buffer::Buffer, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Write,
    Access::Write,
];

params! { n_kv_heads: u32, n_splits: u32, blocks_per_slot: u32, window: u32, scale: f32, group: u32 }

/// The compiled kernel.
#[derive(Debug)]
pub struct AttentionDecode {
    pipeline: Handle,
    group_size: usize,
}

impl AttentionDecode {
    /// Compiles it.
    ///
    /// # Errors
    /// When the shader does not compile.
    pub fn new(gpu: &Gpu, kv: Elem, head_dim: usize, group_size: usize) -> Result<Self> {
        let variant = Variant::AttentionDecode {
            kv: kv_format(kv),
            head_dim: head_dim as u32,
            group: group_size as u32,
            unrolled: !gpu.caps().cpu,
        };
        Ok(Self {
            pipeline: gpu.pipeline(variant)?,
            group_size,
        })
    }

    /// Into `partials` `[n_tokens * n_heads * n_splits, head_dim]` and `stats` `[n_tokens * n_heads * n_splits, 2]` (m, l). With one split,
    /// `partials` becomes the normalised output, and may as well be `[n_tokens, n_heads * head_dim]`.
    pub fn dispatch(&self, pass: &mut Pass<'_>, query: &Query<'_>, n_kv_heads: usize, n_splits: usize, partials: &Tensor, stats: &Tensor) {
        let params = Params {
            n_kv_heads: n_kv_heads as u32,
            n_splits: n_splits as u32,
            blocks_per_slot: query.paging.block_table.cols() as u32,
            window: query.window.unwrap_or(0) as u32,
            scale: query.scale,
            group: self.group_size as u32,
        };
        let buffers = buffers(query, partials, stats);
        let grid = [n_splits as u32, n_kv_heads as u32, query.q.rows() as u32];
        pass.dispatch(&self.pipeline, &buffers, &params, grid);
    }
}

/// What both kernels of decode bind, in order.
pub(super) fn buffers<'a>(query: &'a Query<'_>, partials: &'a Tensor, stats: &'a Tensor) -> [&'a Buffer; 7] {
    [
        &query.q.buffer,
        &query.cache.k.buffer,
        &query.cache.v.buffer,
        &query.paging.rows.buffer,
        &query.paging.block_table.buffer,
        &partials.buffer,
        &stats.buffer,
    ]
}
