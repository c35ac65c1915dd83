//! One token's queries, keys and values in one dispatch: RMS norm, product, bias, rotation and cache write.
//!
//! `qkv = weights (x / sqrt(mean(x^2) + eps) * norm) + bias`; pair (i, i + head_dim / 2) of each query and key head then turns by the
//! token's angle. Shapes: weights `[(n_heads + 2 n_kv_heads) * head_dim, d_model]`, x `[1, d_model]`, vectors `[1, d_model +
//! (n_heads + 2 n_kv_heads) * head_dim]` (norm, then bias), q `[1, n_heads * head_dim]`, caches as [`super::rope`]. The unfused twin:
//! [`super::rms_norm`], [`super::matmul`] and [`super::rope`]; that with integer dot products: [`super::qkv_rope_dot`].

use qwgpu_shaders::{KV_BLOCK, Variant};

use super::{
    Handle, PerDType,
    embed_step::Place,
    fold, kv_format, rms_norm,
    rope::KvLayer,
    share::{Forms, Share},
    weights_format,
};
use crate::{DType, Elem, Gpu, Matrix, Pass, Result, Tensor, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Write,
    Access::Write,
    Access::Write,
];

params! { groups: u32, n_units: u32, n_heads: u32, n_kv_heads: u32, eps: f32, inv_d: f32, grid_x: u32 }

/// Rows that a pair takes.
const PAIR: u32 = 2;

/// What one dispatch reads and writes.
#[derive(Clone, Copy, Debug)]
pub struct Projection<'a> {
    /// q, k and v stacked, in one part.
    pub weights: &'a Matrix,
    /// The residual stream `[1, d_model]`.
    pub x: &'a Tensor,
    /// The norm's weights and the bias, joined: f32 `[1, d_model + rows]`.
    pub vectors: &'a Tensor,
    /// The norm's epsilon.
    pub eps: f32,
    /// The token's.
    pub place: &'a Place,
    /// Rotated queries `[1, n_heads * head_dim]`.
    pub q: &'a Tensor,
    /// The layer's cache.
    pub cache: &'a KvLayer,
}

impl Projection<'_> {
    /// Query heads and kv heads, of shapes that fit a kernel for this cache and head size.
    #[track_caller]
    pub(crate) fn heads(&self, kernel: &str, kv: Elem, head_dim: usize) -> (usize, usize) {
        let (d_model, n_rows) = (self.weights.cols(), self.weights.rows());
        let n_heads = self.q.cols() / head_dim;
        let n_kv_heads = self.cache.k.cols() / (KV_BLOCK as usize * head_dim);
        assert_eq!((self.x.rows(), self.x.cols()), (1, d_model), "{kernel}: shape of x");
        assert_eq!(n_rows, (n_heads + 2 * n_kv_heads) * head_dim, "{kernel}: rows of the matrix");
        assert_eq!(self.vectors.cols(), d_model + n_rows, "{kernel}: norm and bias");
        assert_eq!(self.place.head_dim(), head_dim, "{kernel}: head size of the place");
        assert_eq!(
            (self.cache.k.elem(), self.cache.v.elem()),
            (kv, kv),
            "{kernel}: the cache's element type"
        );
        (n_heads, n_kv_heads)
    }
}

/// The compiled kernel.
#[derive(Debug)]
pub struct NormQkvRope {
    forms: PerDType<Forms>,
    kv: Elem,
    head_dim: usize,
}

fn pipeline(gpu: &Gpu, dtype: DType, share: Share, kv: Elem, head_dim: usize) -> Result<Handle> {
    gpu.pipeline(Variant::NormQkvRope {
        weights: weights_format(gpu.caps(), dtype),
        split: share.split(gpu.caps()),
        rows: share.rows,
        kv: kv_format(kv),
        head_dim: head_dim as u32,
    })
}

impl NormQkvRope {
    /// Compiles it for these weight types and a cache of this element type.
    ///
    /// # Errors
    /// When a shader does not compile.
    pub fn new(gpu: &Gpu, dtypes: &[DType], kv: Elem, head_dim: usize) -> Result<Self> {
        Ok(Self {
            forms: PerDType::by_table(gpu, dtypes, PAIR, |gpu, dtype, share| pipeline(gpu, dtype, share, kv, head_dim))?,
            kv,
            head_dim,
        })
    }

    /// Compiles one form, whatever suits the adapter: the way tests reach each.
    ///
    /// # Errors
    /// As [`NormQkvRope::new`].
    pub fn with_share(gpu: &Gpu, dtype: DType, share: Share, kv: Elem, head_dim: usize) -> Result<Self> {
        Ok(Self {
            forms: PerDType::only(gpu, &[dtype], share, |gpu, dtype, share| pipeline(gpu, dtype, share, kv, head_dim))?,
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
            panic!("norm_qkv_rope: a matrix of {} parts", p.weights.parts.len())
        };
        let (d_model, n_rows) = (p.weights.cols(), p.weights.rows());
        let (n_heads, n_kv_heads) = p.heads("norm_qkv_rope", self.kv, self.head_dim);
        let (share, pipeline) = self.forms.get(p.weights.dtype()).of([n_rows, d_model]);
        let n_units = n_rows / share.rows as usize;
        let grid = fold(pass.gpu(), n_units);
        let params = Params {
            groups: (d_model / 8) as u32,
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
        pass.dispatch(pipeline, &buffers, &params, grid);
    }
}

/// The definition before the rotation, which [`super::rope::reference`] defines: some rows of `qkv`, given those of the matrix.
#[must_use]
pub fn reference<'a>(rows: impl IntoIterator<Item = (&'a [f32], f32)>, x: &[f32], norm: &[f32], eps: f32) -> Vec<f64> {
    let normed = rms_norm::reference(x, norm, eps);
    let row = |(weights, bias): (&[f32], f32)| {
        let products = weights.iter().zip(&normed).map(|(&w, &x)| f64::from(w) * x);
        products.sum::<f64>() + f64::from(bias)
    };
    rows.into_iter().map(row).collect()
}
