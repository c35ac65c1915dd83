//! GQA flash attention of many query rows; [`super::attention::Attention`] chooses between it and the split kernel.
//!
//! The query heads of a kv head are folded into tile rows, 32 / group_size tokens a workgroup. All f32 but for the cache.

use qwgpu_shaders::Variant;

use super::{Handle, attention::Query, kv_format};
use crate::{Elem, Gpu, Pass, Result, Tensor, buffer::Buffer, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Write,
];

params! { n_kv_heads: u32, blocks_per_slot: u32, window: u32, scale: f32, head_vecs: u32 }

/// Rows of a tile: tokens times the heads of a group.
pub const TILE_ROWS: usize = 32;

/// Cuts a batch into tiles `(first_row, n_rows)` of at most `tile_rows / group_size` tokens that never mix sequences. `slots` gives each
/// row's sequence.
#[must_use]
pub fn tiles(slots: &[u32], group_size: usize, tile_rows: usize) -> Vec<[u32; 2]> {
    let mut tiles = Vec::new();
    let mut first = 0;
    for run in slots.chunk_by(|a, b| a == b) {
        for tile in run.chunks(tile_rows / group_size) {
            tiles.push([first, tile.len() as u32]);
            first += tile.len() as u32;
        }
    }
    tiles
}

/// The compiled kernel.
#[derive(Debug)]
pub struct AttentionPrefill {
    pipeline: Handle,
    head_dim: usize,
}

impl AttentionPrefill {
    /// Compiles it.
    ///
    /// # Errors
    /// When the shader does not compile.
    pub fn new(gpu: &Gpu, kv: Elem, head_dim: usize, group_size: usize) -> Result<Self> {
        let variant = Variant::AttentionPrefill {
            kv: kv_format(kv),
            head_dim: head_dim as u32,
            group: group_size as u32,
        };
        Ok(Self {
            pipeline: gpu.pipeline(variant)?,
            head_dim,
        })
    }

    /// Into `out` `[n_tokens, n_heads * head_dim]`, with `tiles` as [`tiles`] makes them, u32 `[n_tiles, 2]`.
    pub fn dispatch(&self, pass: &mut Pass<'_>, query: &Query<'_>, n_kv_heads: usize, tiles: &Tensor, out: &Tensor) {
        let params = Params {
            n_kv_heads: n_kv_heads as u32,
            blocks_per_slot: query.paging.block_table.cols() as u32,
            window: query.window.unwrap_or(0) as u32,
            scale: query.scale,
            head_vecs: self.head_dim as u32 / 4,
        };
        let buffers = buffers(query, tiles, out);
        pass.dispatch(&self.pipeline, &buffers, &params, [tiles.rows() as u32, n_kv_heads as u32, 1]);
    }
}

/// What both kernels of prefill bind, in order.
pub(super) fn buffers<'a>(query: &'a Query<'_>, tiles: &'a Tensor, out: &'a Tensor) -> [&'a Buffer; 7] {
    [
        &query.q.buffer,
        &query.cache.k.buffer,
        &query.cache.v.buffer,
        &query.paging.rows.buffer,
        &query.paging.block_table.buffer,
        &tiles.buffer,
        &out.buffer,
    ]
}

#[cfg(test)]
mod tests {
    use super::tiles;

    #[test]
    fn tiles_do_not_mix_sequences() {
        assert_eq!(tiles(&[0; 9], 8, 32), [[0, 4], [4, 4], [8, 1]]);
        assert_eq!(tiles(&[3, 3, 5, 5, 5], 16, 32), [[0, 2], [2, 2], [4, 1]]);
        assert!(tiles(&[], 1, 32).is_empty());
    }
}
