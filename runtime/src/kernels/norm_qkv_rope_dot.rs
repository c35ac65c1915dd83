//! One token's queries, keys and values with quantised weights: what [`super::norm_quantize`] and [`super::qkv_rope_dot`] do, in one
//! dispatch, for adapters whose subgroups hold a team.
//!
//! `qkv = weights n + bias`, n the normalised x as its bytes have it; then the rotation and the cache write of [`super::norm_qkv_rope`],
//! whose shapes these are, weights in q8 or q4.

use qwgpu_shaders::{NORM_QKV_DOT_ROWS, Variant};

use super::{Handle, PerDType, fold, gate_up_bytes::GateUpBytes, has_teams, kv_format, norm_qkv_rope::Projection, weights_format};
use crate::{BLOCK, DType, Elem, Gpu, Pass, Result};

pub(crate) use super::norm_qkv_rope::BINDINGS;

params! { blocks: u32, n_units: u32, n_heads: u32, n_kv_heads: u32, eps: f32, inv_d: f32, grid_x: u32 }

/// The compiled kernel.
#[derive(Debug)]
pub struct NormQkvRopeDot {
    pipelines: PerDType<Handle>,
    kv: Elem,
    head_dim: usize,
}

impl NormQkvRopeDot {
    /// The most columns that it takes: every workgroup normalises all of x by itself, and an invocation holds 16 of them.
    pub const MOST_COLUMNS: usize = GateUpBytes::MOST_COLUMNS;

    /// Compiles it for those of these weight types that are quantised, and a cache of this element type. Where subgroups hold no team,
    /// teams add up through workgroup memory: for tests, since two dispatches are faster then.
    ///
    /// # Errors
    /// When a shader does not compile.
    pub fn new(gpu: &Gpu, dtypes: &[DType], kv: Elem, head_dim: usize) -> Result<Self> {
        let quantised: Vec<DType> = dtypes.iter().copied().filter(|dtype| dtype.is_quantised()).collect();
        let pipeline = |dtype| {
            gpu.pipeline(Variant::NormQkvRopeDot {
                weights: weights_format(gpu.caps(), dtype),
                subgroup: has_teams(gpu.caps()),
                kv: kv_format(kv),
                head_dim: head_dim as u32,
            })
        };
        Ok(Self {
            pipelines: PerDType::new(&quantised, pipeline)?,
            kv,
            head_dim,
        })
    }

    /// Computes q, and writes k and v at the token's place.
    ///
    /// # Panics
    /// When shapes do not fit, or the matrix is split.
    #[track_caller]
    pub fn dispatch(&self, pass: &mut Pass<'_>, p: &Projection<'_>) {
        let [part] = p.weights.parts.as_slice() else {
            panic!("norm_qkv_rope_dot: a matrix of {} parts", p.weights.parts.len())
        };
        let (n_heads, n_kv_heads) = p.heads("norm_qkv_rope_dot", self.kv, self.head_dim);
        let d_model = p.weights.cols();
        assert!(d_model <= Self::MOST_COLUMNS, "norm_qkv_rope_dot: {d_model} columns");
        let n_units = p.weights.rows() / NORM_QKV_DOT_ROWS as usize;
        let grid = fold(pass.gpu(), n_units);
        let params = Params {
            blocks: (d_model / BLOCK) as u32,
            n_units: n_units as u32,
            n_heads: n_heads as u32,
            n_kv_heads: n_kv_heads as u32,
            eps: p.eps,
            inv_d: 1.0 / d_model as f32,
            grid_x: grid[0],
        };
        let buffers = part.bind(&[
            &p.x.buffer,
            &p.vectors.buffer,
            &p.place.words.buffer,
            &p.q.buffer,
            &p.cache.k.buffer,
            &p.cache.v.buffer,
        ]);
        pass.dispatch(self.pipelines.get(p.weights.dtype()), &buffers, &params, grid);
    }
}
