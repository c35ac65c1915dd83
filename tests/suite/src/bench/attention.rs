//! What the attention kernels are measured on: every turn sees other blocks of one large cache.

use std::sync::Arc;

use qwgpu_runtime::{
    Elem, Gpu, KV_BLOCK, Result, Tensor,
    kernels::{
        attention::{Attention, Plan, Query, Scratch},
        rope::{KvLayer, Paging},
    },
};

use super::{BenchCase, Record, data, rope::name_of, shapes::Shape};

/// The last `n_tokens` rows of a context of `n_keys`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    pub(super) model: Shape,
    pub(super) n_tokens: usize,
    pub(super) n_keys: usize,
    pub(super) kv: Elem,
}

impl Batch {
    /// Counts q, the result, and the keys and values that are seen, once each; and of the products those under the causal mask.
    pub(super) fn case(self, kernel: &'static str) -> BenchCase {
        let Self {
            model,
            n_tokens,
            n_keys,
            kv,
        } = self;
        let depth = n_keys - n_tokens;
        let tokens = if n_tokens == 1 { "token" } else { "tokens" };
        let name = format!("{} {} cache, {n_tokens} {tokens} after {depth}", model.name, name_of(kv));
        let q_cols = model.n_heads * model.head_dim;
        let bytes = 8 * n_tokens * q_cols + 2 * n_keys * model.n_kv_heads * model.head_dim * kv.bytes();
        let n_pairs = n_tokens * (2 * n_keys - n_tokens + 1) / 2;
        BenchCase::new(kernel, name, (bytes, 4 * n_pairs * q_cols), move |gpu, copies| {
            self.prepare(gpu, copies, !(kernel.ends_with("_coop") || kernel.ends_with("_short")))
        })
    }

    fn prepare(self, gpu: &Arc<Gpu>, copies: usize, portable: bool) -> Result<Record> {
        let Shape {
            n_heads,
            n_kv_heads,
            head_dim,
            ..
        } = self.model;
        let (n_tokens, n_keys, cols) = (self.n_tokens, self.n_keys, n_heads * head_dim);
        let make = if portable { Attention::portable } else { Attention::new };
        let kernel = make(gpu, self.kv, head_dim, n_heads / n_kv_heads)?;
        let n_blocks = n_keys.div_ceil(KV_BLOCK as usize);
        let block_cols = n_kv_heads * KV_BLOCK as usize * head_dim;
        let cache = KvLayer {
            k: data::random(gpu, copies * n_blocks, block_cols, self.kv)?,
            v: data::random(gpu, copies * n_blocks, block_cols, self.kv)?,
        };
        let block_tables = data::words(gpu, copies, [1, n_blocks], |i| {
            (0..n_blocks).map(|block| (i * n_blocks + block) as u32).collect()
        })?;
        let positions = (n_keys - n_tokens) as u32..n_keys as u32;
        let rows: Vec<u32> = positions.flat_map(|pos| [0, 0, pos, pos]).collect();
        let rows = Tensor::from_u32(gpu, "rows", n_tokens, 4, &rows)?;
        let qs = data::inputs(gpu, copies, n_tokens, cols)?;
        let outs = data::outputs(gpu, copies, n_tokens, cols)?;
        let scratch = Scratch::new(gpu, n_tokens, n_heads, head_dim)?;
        let plan = if n_tokens == 1 {
            Plan::Split(kernel.n_splits(gpu, 1, n_kv_heads, n_keys))
        } else {
            let tiles = kernel.tiles(&vec![0; n_tokens]);
            Plan::Tiled(Tensor::from_u32(gpu, "tiles", tiles.len(), 2, tiles.as_flattened())?)
        };
        let scale = 1.0 / (head_dim as f32).sqrt();
        Ok(Box::new(move |pass, i| {
            let query = Query {
                q: &qs[i],
                cache: &cache,
                paging: Paging {
                    rows: &rows,
                    block_table: &block_tables[i],
                },
                window: None,
                scale,
            };
            kernel.dispatch(pass, &query, &plan, &scratch, &outs[i]);
        }))
    }
}
