//! The paged KV cache of one session: blocks of 64 positions, found through a table.
//!
//! One sequence uses slot 0 with its blocks in order; batching and prefix reuse will deal blocks out, and the kernels already read
//! the table.

use qwgpu_runtime::{
    Elem, Gpu, KV_BLOCK, Tensor,
    kernels::rope::{KvLayer, Paging},
};

use crate::{Result, config::Config};

/// Keys and values of every layer.
#[derive(Debug)]
pub(crate) struct KvCache {
    pub(crate) layers: Vec<KvLayer>,
    /// u32 `[1, n_blocks]`
    block_table: Tensor,
}

impl KvCache {
    /// Blocks that hold `ctx` positions.
    fn n_blocks(ctx: usize) -> usize {
        ctx.div_ceil(KV_BLOCK as usize)
    }

    /// Bytes that [`KvCache::new`] will take.
    pub(crate) fn bytes(config: &Config, ctx: usize, elem: Elem) -> u64 {
        let positions = (Self::n_blocks(ctx) * KV_BLOCK as usize) as u64;
        2 * config.n_layers as u64 * positions * (config.kv_width() * elem.bytes()) as u64
    }

    pub(crate) fn new(gpu: &Gpu, config: &Config, ctx: usize, elem: Elem) -> Result<Self> {
        let n_blocks = Self::n_blocks(ctx);
        let layer = |_| KvLayer::new(gpu, n_blocks, config.n_kv_heads, config.head_dim, elem);
        let table: Vec<u32> = (0..n_blocks as u32).collect();
        Ok(Self {
            layers: (0..config.n_layers).map(layer).collect::<Result<_, _>>()?,
            block_table: Tensor::from_u32(gpu, "block table", 1, n_blocks, &table)?,
        })
    }

    pub(crate) fn paging<'a>(&'a self, rows: &'a Tensor) -> Paging<'a> {
        Paging {
            rows,
            block_table: &self.block_table,
        }
    }
}
