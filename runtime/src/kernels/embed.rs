//! Embedding gather: `out[t] = weights[rows[t].token]`, widened to f32.
//!
//! Shapes: weights `[vocab, d_model]`, rows `[n_tokens]`, out `[n_tokens, d_model]`.

use super::{Handle, PerDType, weights_format};
use crate::{DType, Gpu, Matrix, Pass, Result, Tensor, pipeline::Access};
use qwgpu_shaders::Variant;

pub(crate) const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Write];

params! { n_tokens: u32, groups: u32, first_row: u32, n_rows: u32 }

/// The compiled kernel.
#[derive(Debug)]
pub struct Embed {
    pipelines: PerDType<Handle>,
}

impl Embed {
    /// Compiles it for these weight types.
    ///
    /// # Errors
    /// When a shader does not compile.
    pub fn new(gpu: &Gpu, dtypes: &[DType]) -> Result<Self> {
        let make = |dtype| {
            gpu.pipeline(Variant::Embed {
                weights: weights_format(gpu.caps(), dtype),
            })
        };
        Ok(Self {
            pipelines: PerDType::new(dtypes, make)?,
        })
    }

    /// Gathers `out.rows()` embeddings. `rows` holds [`super::Row`]s as u32 `[n_tokens, 4]`.
    ///
    /// # Panics
    /// When shapes do not fit.
    #[track_caller]
    pub fn dispatch(&self, pass: &mut Pass<'_>, weights: &Matrix, rows: &Tensor, out: &Tensor) {
        let n_tokens = out.rows();
        assert!(
            rows.rows() >= n_tokens && rows.cols() == 4,
            "embed: rows [{}, {}]",
            rows.rows(),
            rows.cols()
        );
        assert_eq!(out.cols(), weights.cols(), "embed: columns of out and weights");
        let groups = (weights.cols() / 8) as u32;
        for part in &weights.parts {
            let params = Params {
                n_tokens: n_tokens as u32,
                groups,
                first_row: part.first_row as u32,
                n_rows: part.n_rows as u32,
            };
            let buffers = part.bind(&[&rows.buffer, &out.buffer]);
            pass.dispatch(
                self.pipelines.get(weights.dtype()),
                &buffers,
                &params,
                [groups.div_ceil(64), n_tokens as u32, 1],
            );
        }
    }
}

/// The definition: row `token` of `weights [vocab, d_model]` for each token.
#[must_use]
pub fn reference(weights: &[f32], d_model: usize, tokens: &[u32]) -> Vec<f32> {
    tokens
        .iter()
        .flat_map(|&token| &weights[token as usize * d_model..][..d_model])
        .copied()
        .collect()
}
