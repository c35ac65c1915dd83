//! One token's queries, keys and values with quantised weights and the normalised x in bytes, with integer dot products:
//! `qkv = weights n + bias`, n as its bytes have it; then the rotation and the cache write of [`super::norm_qkv_rope`].
//!
//! The bytes come from [`super::norm_quantize`], which leaves their scales behind them: two bindings for x would be one too many.
//! Against the unquantised n, each of its elements is off by up to half a step, a 254th of the largest of its block. Shapes: as
//! [`super::norm_qkv_rope`], the twin in f32, weights in q8 or q4.

use qwgpu_shaders::Variant;

use super::{
    Handle, PerDType, fold, kv_format,
    norm_qkv_rope::Projection,
    quantize::Bytes,
    share::{Forms, Share},
    weights_format,
};
use crate::{BLOCK, DType, Elem, Gpu, Pass, Result, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Write,
    Access::Write,
    Access::Write,
];

params! { blocks: u32, scales_at: u32, n_units: u32, n_heads: u32, n_kv_heads: u32, grid_x: u32 }

/// The compiled kernel.
#[derive(Debug)]
pub struct QkvRopeDot {
    forms: PerDType<Forms>,
    kv: Elem,
    head_dim: usize,
}

fn pipeline(gpu: &Gpu, dtype: DType, share: Share, kv: Elem, head_dim: usize) -> Result<Handle> {
    gpu.pipeline(Variant::QkvRopeDot {
        weights: weights_format(gpu.caps(), dtype),
        reduce: share.reduce(gpu.caps()),
        rows: share.rows,
        kv: kv_format(kv),
        head_dim: head_dim as u32,
    })
}

impl QkvRopeDot {
    /// What a workgroup has by default.
    pub const SHARE: Share = Share { workgroup: 64, rows: 2 };

    /// Compiles it for those of these weight types that are quantised, and a cache of this element type.
    ///
    /// # Errors
    /// When a shader does not compile.
    pub fn new(gpu: &Gpu, dtypes: &[DType], kv: Elem, head_dim: usize) -> Result<Self> {
        Ok(Self {
            forms: PerDType::only_quantised(gpu, dtypes, Self::SHARE, |gpu, dtype, share| {
                pipeline(gpu, dtype, share, kv, head_dim)
            })?,
            kv,
            head_dim,
        })
    }

    /// Compiles it for one weight type, with invocations of `MATVEC_DOT_WORKGROUPS` and rows of `QKV_DOT_ROWS` to a workgroup.
    ///
    /// # Errors
    /// As [`QkvRopeDot::new`].
    ///
    /// # Panics
    /// For a weight type that is not quantised.
    #[track_caller]
    pub fn with_share(gpu: &Gpu, dtype: DType, share: Share, kv: Elem, head_dim: usize) -> Result<Self> {
        assert!(dtype.is_quantised(), "qkv_rope_dot: {dtype} weights");
        Ok(Self {
            forms: PerDType::only(gpu, &[dtype], share, |gpu, dtype, share| pipeline(gpu, dtype, share, kv, head_dim))?,
            kv,
            head_dim,
        })
    }

    /// Computes q, and writes k and v at the token's place, from the bytes that [`super::norm_quantize`] has made of `p.x`. Of `p`, x and
    /// the norm are not read.
    ///
    /// # Panics
    /// When shapes do not fit, or the matrix is split.
    #[track_caller]
    pub fn dispatch(&self, pass: &mut Pass<'_>, p: &Projection<'_>, bytes: &Bytes) {
        let [part] = p.weights.parts.as_slice() else {
            panic!("qkv_rope_dot: a matrix of {} parts", p.weights.parts.len())
        };
        let (n_heads, n_kv_heads) = p.heads("qkv_rope_dot", self.kv, self.head_dim);
        let d_model = p.weights.cols();
        assert!(d_model <= bytes.room(), "qkv_rope_dot: {d_model} columns of {}", bytes.room());
        let (share, pipeline) = self.forms.get(p.weights.dtype()).of([p.weights.rows(), d_model]);
        let n_units = p.weights.rows() / share.rows as usize;
        let grid = fold(pass.gpu(), n_units);
        let params = Params {
            blocks: (d_model / BLOCK) as u32,
            scales_at: (bytes.scales_at() / 4) as u32,
            n_units: n_units as u32,
            n_heads: n_heads as u32,
            n_kv_heads: n_kv_heads as u32,
            grid_x: grid[0],
        };
        let buffers = part.bind(&[
            &bytes.bytes.buffer,
            &p.vectors.buffer,
            &p.place.words.buffer,
            &p.q.buffer,
            &p.cache.k.buffer,
            &p.cache.v.buffer,
        ]);
        pass.dispatch(pipeline, &buffers, &params, grid);
    }
}
