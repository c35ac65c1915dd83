//! GQA attention of few query rows over a context that need not be split; [`super::attention::Attention`] takes it instead of
//! [`super::attention_decode`] where subgroups are wide enough.
//!
//! All f32. A workgroup for each query head and row, so that as many multiprocessors as there are heads wait for memory at the same time.

use qwgpu_shaders::Variant;

use super::{Handle, attention::Query, has_teams, kv_format};
use crate::{Elem, Gpu, Pass, Result, Tensor, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Read, Access::Write];

params! { n_kv_heads: u32, group: u32, blocks_per_slot: u32, window: u32, scale: f32 }

/// The compiled kernel.
#[derive(Debug)]
pub struct AttentionShort {
    pipeline: Handle,
}

impl AttentionShort {
    /// Compiles it. Where subgroups hold no team, teams add up through workgroup memory: for tests, since it is slower than
    /// [`super::attention_decode`] then.
    ///
    /// # Errors
    /// When the shader does not compile.
    pub fn new(gpu: &Gpu, kv: Elem, head_dim: usize) -> Result<Self> {
        let variant = Variant::AttentionShort {
            kv: kv_format(kv),
            head_dim: head_dim as u32,
            subgroup: has_teams(gpu.caps()),
        };
        Ok(Self {
            pipeline: gpu.pipeline(variant)?,
        })
    }

    /// Into `out` `[n_tokens, n_kv_heads * group * head_dim]`.
    pub fn dispatch(&self, pass: &mut Pass<'_>, query: &Query<'_>, n_kv_heads: usize, group: usize, out: &Tensor) {
        let params = Params {
            n_kv_heads: n_kv_heads as u32,
            group: group as u32,
            blocks_per_slot: query.paging.block_table.cols() as u32,
            window: query.window.unwrap_or(0) as u32,
            scale: query.scale,
        };
        let buffers = [
            &*query.q.buffer,
            &query.cache.k.buffer,
            &query.cache.v.buffer,
            &query.paging.rows.buffer,
            &query.paging.block_table.buffer,
            &out.buffer,
        ];
        let grid = [(n_kv_heads * group) as u32, query.q.rows() as u32, 1];
        pass.dispatch(&self.pipeline, &buffers, &params, grid);
    }
}
