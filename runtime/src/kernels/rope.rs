//! Rotary embedding (Su et al. 2021) of q and k, fused with the write of k and v into the cache.
//!
//! Pair (i, i + head_dim / 2) of each head turns by `rope_pos * inv_freq[i]`. Shapes: qkv `[n_tokens, (n_heads + 2 n_kv_heads) *
//! head_dim]`, table `[256 + n_hi, head_dim]` (cos and sin interleaved; see `rope.wgsl`), q `[n_tokens, n_heads * head_dim]`,
//! caches `[n_blocks, n_kv_heads * KV_BLOCK * head_dim]`, block table `[n_slots, blocks_per_slot]`.

use qwgpu_shaders::{KV_BLOCK, Variant};

use super::{Handle, kv_format};
use crate::{Elem, Gpu, Pass, Result, Tensor, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Write,
    Access::Write,
    Access::Write,
];

params! { n_heads: u32, n_kv_heads: u32, blocks_per_slot: u32 }

/// Rows and paging of a batch, shared by every kernel that touches the cache.
#[derive(Clone, Copy, Debug)]
pub struct Paging<'a> {
    /// [`super::Row`]s as u32 `[n_tokens, 4]`.
    pub rows: &'a Tensor,
    /// Physical block of each block of each sequence, u32 `[n_slots, blocks_per_slot]`.
    pub block_table: &'a Tensor,
}

/// One layer's share of the KV cache.
#[derive(Clone, Debug)]
pub struct KvLayer {
    /// Keys, rotated: `[n_blocks, n_kv_heads * KV_BLOCK * head_dim]`.
    pub k: Tensor,
    /// Values, the same shape.
    pub v: Tensor,
}

impl KvLayer {
    /// An empty cache of `n_blocks` blocks.
    ///
    /// # Errors
    /// When the adapter has no room.
    pub fn new(gpu: &Gpu, n_blocks: usize, n_kv_heads: usize, head_dim: usize, elem: Elem) -> Result<Self> {
        let cols = n_kv_heads * KV_BLOCK as usize * head_dim;
        Ok(Self {
            k: Tensor::new(gpu, "k cache", n_blocks, cols, elem)?,
            v: Tensor::new(gpu, "v cache", n_blocks, cols, elem)?,
        })
    }
}

/// The compiled kernel.
#[derive(Debug)]
pub struct Rope {
    pipeline: Handle,
    kv: Elem,
    head_dim: usize,
}

impl Rope {
    /// Compiles it for a cache of this element type.
    ///
    /// # Errors
    /// When the shader does not compile.
    pub fn new(gpu: &Gpu, kv: Elem, head_dim: usize) -> Result<Self> {
        let pipeline = gpu.pipeline(Variant::Rope {
            kv: kv_format(kv),
            head_dim: head_dim as u32,
        })?;
        Ok(Self { pipeline, kv, head_dim })
    }

    /// Rotates q into `q`, and k with v into the cache at each row's position.
    ///
    /// # Panics
    /// When shapes do not fit.
    #[track_caller]
    pub fn dispatch(&self, pass: &mut Pass<'_>, qkv: &Tensor, table: &Tensor, paging: Paging<'_>, q: &Tensor, cache: &KvLayer) {
        let n_heads = q.cols() / self.head_dim;
        let n_kv_heads = cache.k.cols() / (KV_BLOCK as usize * self.head_dim);
        let n_all = n_heads + 2 * n_kv_heads;
        assert_eq!(qkv.cols(), n_all * self.head_dim, "rope: columns of qkv");
        assert!(
            qkv.rows() >= q.rows() && paging.rows.rows() >= q.rows(),
            "rope: {} rows of q",
            q.rows()
        );
        assert_eq!(table.cols(), self.head_dim, "rope: columns of the table");
        assert_eq!(
            (cache.k.elem(), cache.v.elem()),
            (self.kv, self.kv),
            "rope: the cache's element type"
        );
        let params = Params {
            n_heads: n_heads as u32,
            n_kv_heads: n_kv_heads as u32,
            blocks_per_slot: paging.block_table.cols() as u32,
        };
        let buffers = [
            &*qkv.buffer,
            &table.buffer,
            &paging.rows.buffer,
            &paging.block_table.buffer,
            &q.buffer,
            &cache.k.buffer,
            &cache.v.buffer,
        ];
        let grid = [(n_all * self.head_dim / 8).div_ceil(64) as u32, q.rows() as u32, 1];
        pass.dispatch(&self.pipeline, &buffers, &params, grid);
    }
}

/// The definition, for one head: pair i turns by `pos * inv_freq[i]`, both halves scaled by YaRN's `factor`.
#[must_use]
pub fn reference(head: &[f32], pos: u32, inv_freq: &[f64], factor: f64) -> Vec<f64> {
    let half = head.len() / 2;
    let mut out = vec![0.0; head.len()];
    for i in 0..half {
        let (sin, cos) = (f64::from(pos) * inv_freq[i]).sin_cos();
        let (a, b) = (f64::from(head[i]), f64::from(head[i + half]));
        out[i] = (a * cos - b * sin) * factor;
        out[i + half] = (b * cos + a * sin) * factor;
    }
    out
}
