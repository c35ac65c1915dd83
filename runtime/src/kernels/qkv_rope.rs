//! One token's queries, keys and values, and the choice between their forms: [`super::norm_qkv_rope`], or for large quantised matrices
//! [`super::norm_qkv_rope_dot`]; where that does not go, [`super::norm_quantize`] and [`super::qkv_rope_dot`].

use super::{
    has_teams,
    norm_qkv_rope::{NormQkvRope, Projection},
    norm_qkv_rope_dot::NormQkvRopeDot,
    norm_quantize::NormQuantize,
    qkv_rope_dot::QkvRopeDot,
    quantize::{self, Bytes},
};
use crate::{DType, Elem, Gpu, Matrix, Pass, Result, Tensor};

/// Its forms, compiled.
#[derive(Debug)]
pub struct StepQkv {
    fused: NormQkvRope,
    dot: Option<Dot>,
}

/// With integer dot products.
#[derive(Debug)]
struct Dot {
    norm_quantize: NormQuantize,
    qkv_rope: QkvRopeDot,
    norm_qkv_rope: Option<NormQkvRopeDot>,
}

impl StepQkv {
    /// Compiles what matrices in these weight types may take, for a cache of this element type.
    ///
    /// # Errors
    /// When a shader does not compile.
    pub fn new(gpu: &Gpu, dtypes: &[DType], kv: Elem, head_dim: usize) -> Result<Self> {
        let pays = dtypes.iter().any(|&dtype| quantize::pays(gpu.caps(), dtype));
        let dot = || -> Result<Dot> {
            Ok(Dot {
                norm_quantize: NormQuantize::new(gpu)?,
                qkv_rope: QkvRopeDot::new(gpu, dtypes, kv, head_dim)?,
                norm_qkv_rope: has_teams(gpu.caps())
                    .then(|| NormQkvRopeDot::new(gpu, dtypes, kv, head_dim))
                    .transpose()?,
            })
        };
        Ok(Self {
            fused: NormQkvRope::new(gpu, dtypes, kv, head_dim)?,
            dot: pays.then(dot).transpose()?,
        })
    }

    fn dot(&self, weights: &Matrix) -> Option<&Dot> {
        self.dot.as_ref().filter(|_| quantize::is_qkv_for_bytes(weights))
    }

    /// Whether products with these weights round their input to bytes.
    #[must_use]
    pub fn takes_bytes(&self, weights: &Matrix) -> bool {
        self.dot(weights).is_some()
    }

    /// Computes q, and writes k and v at the token's place. `norm` are the norm's weights alone, `[1, d_model]`, and `bytes` is where the
    /// normalised x is put for integer dot products.
    ///
    /// # Panics
    /// When shapes do not fit, or the matrix is split.
    #[track_caller]
    pub fn dispatch(&self, pass: &mut Pass<'_>, p: &Projection<'_>, norm: &Tensor, bytes: &Bytes) {
        let narrow = p.weights.cols() <= NormQkvRopeDot::MOST_COLUMNS;
        if let Some(dot) = self.dot(p.weights) {
            if let Some(kernel) = dot.norm_qkv_rope.as_ref().filter(|_| narrow) {
                return kernel.dispatch(pass, p);
            }
            dot.norm_quantize.dispatch(pass, p.x, norm, p.eps, bytes);
            dot.qkv_rope.dispatch(pass, p, bytes);
        } else {
            self.fused.dispatch(pass, p);
        }
    }
}
