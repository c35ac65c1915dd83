//! Joins the splits of [`super::attention_decode`] and [`super::attention_decode_coop`]: `out = sum_s e^(m_s - m) partial_s / sum_s e^(m_s - m) l_s`.

use qwgpu_shaders::{MAX_SPLITS, Variant};

use super::Handle;
use crate::{Gpu, Pass, Result, Tensor, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Write];

params! { n_heads: u32, n_splits: u32 }

/// The compiled kernel.
#[derive(Debug)]
pub struct AttentionMerge {
    pipeline: Handle,
    head_dim: usize,
}

impl AttentionMerge {
    /// Compiles it.
    ///
    /// # Errors
    /// When the shader does not compile.
    pub fn new(gpu: &Gpu, head_dim: usize) -> Result<Self> {
        Ok(Self {
            pipeline: gpu.pipeline(Variant::AttentionMerge { head_dim: head_dim as u32 })?,
            head_dim,
        })
    }

    /// `partials` `[n_tokens * n_heads * n_splits, head_dim]`, `stats` the same rows x 2 (m, l), `out` `[n_tokens, n_heads * head_dim]`.
    ///
    /// # Panics
    /// When shapes do not fit.
    #[track_caller]
    pub fn dispatch(&self, pass: &mut Pass<'_>, partials: &Tensor, stats: &Tensor, n_splits: usize, out: &Tensor) {
        let n_heads = out.cols() / self.head_dim;
        let n_partials = out.rows() * n_heads * n_splits;
        assert!(
            partials.rows() >= n_partials && stats.rows() >= n_partials,
            "attention_merge: {n_partials} partials"
        );
        assert!(n_splits <= MAX_SPLITS as usize, "attention_merge: {n_splits} splits");
        let params = Params {
            n_heads: n_heads as u32,
            n_splits: n_splits as u32,
        };
        let grid = [n_heads as u32, out.rows() as u32, 1];
        pass.dispatch(&self.pipeline, &[&partials.buffer, &stats.buffer, &out.buffer], &params, grid);
    }
}

/// The definition, for one head: `partials [n_splits, head_dim]`, `stats [n_splits]` of (m, l).
#[must_use]
pub fn reference(partials: &[f32], stats: &[(f32, f32)], head_dim: usize) -> Vec<f64> {
    let m = stats.iter().map(|s| f64::from(s.0)).fold(f64::NEG_INFINITY, f64::max);
    let weight = |s: &(f32, f32)| (f64::from(s.0) - m).exp();
    let sum: f64 = stats.iter().map(|s| weight(s) * f64::from(s.1)).sum();
    let part = |d: usize| {
        stats
            .iter()
            .enumerate()
            .map(move |(i, s)| weight(s) * f64::from(partials[i * head_dim + d]))
    };
    (0..head_dim).map(|d| part(d).sum::<f64>() / sum).collect()
}
