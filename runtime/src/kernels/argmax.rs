//! Greedy choice: the id of the largest of the first `n_valid` logits of each row, ties to the lowest id.
//!
//! Shapes: logits `[n_rows, vocab]`, ids u32 `[n_rows, 1]`.

use qwgpu_shaders::Variant;

use super::{Handle, reduce};
use crate::{Gpu, Pass, Result, Tensor, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[Access::Read, Access::Write];

params! { n_valid: u32, stride: u32 }

/// The compiled kernel.
#[derive(Debug)]
pub struct Argmax {
    pipeline: Handle,
}

impl Argmax {
    /// Compiles it.
    ///
    /// # Errors
    /// When the shader does not compile.
    pub fn new(gpu: &Gpu) -> Result<Self> {
        Ok(Self {
            pipeline: gpu.pipeline(Variant::Argmax {
                reduce: reduce(gpu.caps(), 256),
            })?,
        })
    }

    /// One id for each row of `logits`.
    ///
    /// # Panics
    /// When shapes do not fit.
    #[track_caller]
    pub fn dispatch(&self, pass: &mut Pass<'_>, logits: &Tensor, n_valid: usize, ids: &Tensor) {
        assert!(
            n_valid > 0 && n_valid <= logits.cols(),
            "argmax: {n_valid} of {} columns",
            logits.cols()
        );
        assert!(ids.rows() >= logits.rows(), "argmax: {} ids for {} rows", ids.rows(), logits.rows());
        let params = Params {
            n_valid: n_valid as u32,
            stride: logits.cols() as u32,
        };
        pass.dispatch(
            &self.pipeline,
            &[&logits.buffer, &ids.buffer],
            &params,
            [logits.rows() as u32, 1, 1],
        );
    }
}

/// The definition, for one row of valid logits. NaN is never chosen; a row of nothing else, or of -inf alone, gives 0.
#[must_use]
pub fn reference(logits: &[f32]) -> u32 {
    let mut best = (f32::MIN, None);
    for (id, &x) in (0..).zip(logits) {
        if x > best.0 || (x == best.0 && best.1.is_none()) {
            best = (x, Some(id));
        }
    }
    best.1.unwrap_or(0)
}
