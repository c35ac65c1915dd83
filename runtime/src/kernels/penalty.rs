//! Repetition penalty (Keskar et al. 2019) in place: logits of ids that have occurred are divided by it where positive,
//! multiplied where negative, as transformers does. The row's own token counts as having occurred, and is remembered.
//!
//! Shapes: logits `[n_rows, vocab]`, seen u32 `[n_rows, vocab / 32 rounded up]`, one bit an id, rows u32 `[n_rows, 4]`.

use qwgpu_shaders::Variant;

use super::Handle;
use crate::{Gpu, Pass, Result, Tensor, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[Access::Write, Access::Write, Access::Read];

params! { n: u32, n_words: u32, penalty: f32 }

/// The compiled kernel.
#[derive(Debug)]
pub struct Penalty {
    pipeline: Handle,
}

/// Words that hold one bit for each id of a vocabulary.
#[must_use]
pub const fn seen_words(vocab: usize) -> usize {
    vocab.div_ceil(32)
}

/// The bits of `ids`, those beyond the vocabulary left out: what a row of `seen` starts with.
#[must_use]
pub fn seen_bits(vocab: usize, ids: &[u32]) -> Vec<u32> {
    let mut words = vec![0; seen_words(vocab)];
    for &id in ids.iter().filter(|&&id| (id as usize) < vocab) {
        words[id as usize / 32] |= 1 << (id % 32);
    }
    words
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

    /// Marks the token of each of `rows` as seen, and penalises the logits of all that `seen` has marked.
    ///
    /// # Panics
    /// When shapes do not fit.
    #[track_caller]
    pub fn dispatch(&self, pass: &mut Pass<'_>, logits: &Tensor, seen: &Tensor, rows: &Tensor, penalty: f32) {
        let (n_rows, n_words) = (logits.rows(), seen_words(logits.cols()));
        assert!(
            seen.rows() >= n_rows && seen.cols() == n_words && rows.rows() >= n_rows && rows.cols() == 4,
            "penalty: {n_rows} rows of {} logits",
            logits.cols()
        );
        let params = Params {
            n: logits.cols() as u32,
            n_words: n_words as u32,
            penalty,
        };
        let grid = [n_words.div_ceil(64) as u32, n_rows as u32, 1];
        pass.dispatch(&self.pipeline, &[&logits.buffer, &seen.buffer, &rows.buffer], &params, grid);
    }
}

/// The definition, for one logit of an id that has occurred.
#[must_use]
pub fn reference(logit: f32, penalty: f32) -> f32 {
    if logit < 0.0 { logit * penalty } else { logit / penalty }
}
