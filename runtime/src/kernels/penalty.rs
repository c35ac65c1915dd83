//! Repetition penalty (Keskar et al. 2019) in place: logits of ids that have occurred are divided by it where positive,
//! multiplied where negative, as transformers does.

use qwgpu_shaders::Variant;

use super::Handle;
use crate::{Gpu, Pass, Result, Tensor, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[Access::Write, Access::Read];

params! { n_ids: u32, first_logit: u32, penalty: f32 }

/// The compiled kernel.
#[derive(Debug)]
pub struct Penalty {
    pipeline: Handle,
}

impl Penalty {
    /// Compiles it.
    ///
    /// # Errors
    /// When the shader does not compile.
    pub fn new(gpu: &Gpu) -> Result<Self> {
        Ok(Self {
            pipeline: gpu.pipeline(Variant::Penalty)?,
        })
    }

    /// Penalises row `row` of `logits` for the first `n_ids` of `ids`, which must be distinct and below `logits.cols()`.
    ///
    /// # Panics
    /// When shapes do not fit.
    #[track_caller]
    pub fn dispatch(&self, pass: &mut Pass<'_>, logits: &Tensor, row: usize, ids: &Tensor, n_ids: usize, penalty: f32) {
        assert!(
            row < logits.rows() && n_ids <= ids.rows() * ids.cols(),
            "penalty: row {row}, {n_ids} ids"
        );
        let params = Params {
            n_ids: n_ids as u32,
            first_logit: (row * logits.cols()) as u32,
            penalty,
        };
        pass.dispatch(
            &self.pipeline,
            &[&logits.buffer, &ids.buffer],
            &params,
            [n_ids.div_ceil(64) as u32, 1, 1],
        );
    }
}

/// The definition, for one logit of an id that has occurred.
#[must_use]
pub fn reference(logit: f32, penalty: f32) -> f32 {
    if logit < 0.0 { logit * penalty } else { logit / penalty }
}
