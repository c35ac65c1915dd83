//! The next token of each row, drawn from its candidates: top-k, softmax at a temperature, top-p, min-p, and a random number.
//!
//! The kept candidates stand in order of id, with weights `w = exp((logit - largest) / temperature)`; the token is the first at which
//! the sum of weights exceeds `u` times the sum of all, where `u` is [`philox::uniform`](crate::philox::uniform) of the seed and the position of the
//! token drawn. The draw so depends on logits, [`Draw`] and position alone. The filters mean what those of Hugging Face transformers
//! mean, in their order, and ties go to the lower id.
//!
//! Shapes: logits `[n_rows, vocab]` or candidates u32 `[n_rows, n]` as [`topk`](super::topk) leaves them; rows u32 `[n_rows, 4]`, which
//! get the token and are advanced by one position.

use std::cmp::Reverse;

use qwgpu_shaders::Variant;

use super::{Handle, topk::key};
use crate::{Gpu, Pass, Result, Tensor, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Write];

params! {
    n: u32, stride: u32, has_ids: u32, k: u32, top_p: u32, min_p: f32, inverse_temperature: f32, seed_low: u32, seed_high: u32
}

/// How to draw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// Divides the logits; positive.
    pub temperature: f32,
    /// Keep only this many best candidates; 0 keeps all.
    pub k: usize,
    /// Keep the fewest best candidates whose probabilities sum to at least this; 1 keeps all.
    pub top_p: f32,
    /// Drop candidates less probable than this fraction of the best one's probability; 0 keeps all.
    pub min_p: f32,
    /// Key of the random numbers.
    pub seed: u64,
}

/// What a token is drawn from.
#[derive(Clone, Copy, Debug)]
pub enum Candidates<'a> {
    /// The first `n_valid` columns of logits.
    Logits {
        /// f32 `[n_rows, vocab]`
        logits: &'a Tensor,
        /// Columns that are tokens.
        n_valid: usize,
    },
    /// What [`topk`](super::topk) has left, at least as many as [`Draw::k`] in each row.
    Top {
        /// u32 `[n_rows, n]`
        keys: &'a Tensor,
        /// u32 `[n_rows, n]`
        ids: &'a Tensor,
        /// Candidates of a row, which follow each other without a gap.
        n: usize,
    },
}

/// The compiled kernel.
#[derive(Debug)]
pub struct Sample {
    pipeline: Handle,
}

impl Sample {
    /// Compiles it.
    ///
    /// # Errors
    /// When the shader does not compile.
    pub fn new(gpu: &Gpu) -> Result<Self> {
        Ok(Self {
            pipeline: gpu.pipeline(Variant::Sample)?,
        })
    }

    /// Draws a token for each of `rows`, and advances it.
    ///
    /// # Panics
    /// When shapes do not fit, or the temperature is not positive.
    #[track_caller]
    pub fn dispatch(&self, pass: &mut Pass<'_>, candidates: Candidates<'_>, draw: &Draw, rows: &Tensor) {
        let (words, ids, n, stride) = match candidates {
            Candidates::Logits { logits, n_valid } => (logits, logits, n_valid, logits.cols()),
            Candidates::Top { keys, ids, n } => (keys, ids, n, n),
        };
        let n_rows = rows.rows();
        assert!(
            n > 0 && n <= stride && n_rows * stride <= words.rows() * words.cols() && rows.cols() == 4,
            "sample: {n} of {stride} candidates for {n_rows} rows"
        );
        assert!(draw.temperature > 0.0, "sample: temperature {}", draw.temperature);
        let params = Params {
            n: n as u32,
            stride: stride as u32,
            has_ids: u32::from(matches!(candidates, Candidates::Top { .. })),
            k: if draw.k < n { draw.k as u32 } else { 0 },
            top_p: fraction(draw.top_p),
            min_p: draw.min_p,
            // what is beyond f32 leaves the best alone, as the largest number does
            inverse_temperature: draw.temperature.recip().min(f32::MAX),
            seed_low: draw.seed as u32,
            seed_high: (draw.seed >> 32) as u32,
        };
        let grid = [1, n_rows as u32, 1];
        pass.dispatch(&self.pipeline, &[&words.buffer, &ids.buffer, &rows.buffer], &params, grid);
    }
}

/// A share in units of 2^-32; 0 stands for all, and the best one is kept in any case.
fn fraction(top_p: f32) -> u32 {
    if top_p >= 1.0 {
        0
    } else {
        ((f64::from(top_p) * 2f64.powi(32)) as u32).max(1)
    }
}

/// The definition, for one row of valid logits: ids that may be drawn and their probabilities, in order of id.
///
/// A logit of +infinity leaves nothing else. Where none is above -infinity, id 0 is all that is left.
#[must_use]
pub fn reference(logits: &[f32], draw: &Draw) -> Vec<(u32, f64)> {
    let mut order: Vec<u32> = (0..logits.len() as u32).filter(|&id| !logits[id as usize].is_nan()).collect();
    let logit = |id: u32| f64::from(logits[id as usize]);
    order.sort_by_key(|&id| (Reverse(key(logits[id as usize])), id));
    order.truncate(if draw.k == 0 { usize::MAX } else { draw.k });
    let Some(&best) = order.first().filter(|&&id| logit(id) > f64::NEG_INFINITY) else {
        return vec![(0, 1.0)];
    };
    if logit(best) == f64::INFINITY {
        return vec![(best, 1.0)];
    }
    let weight = |id: u32| ((logit(id) - logit(best)) / f64::from(draw.temperature)).exp();
    let enough = f64::from(draw.top_p) * order.iter().map(|&id| weight(id)).sum::<f64>();
    let mut sum = 0.0;
    let mut kept = Vec::new();
    for id in order {
        let in_nucleus = draw.top_p >= 1.0 || sum < enough || id == best;
        sum += weight(id);
        if in_nucleus && weight(id) >= f64::from(draw.min_p) {
            kept.push((id, weight(id)));
        }
    }
    kept.sort_by_key(|&(id, _)| id);
    let sum: f64 = kept.iter().map(|(_, weight)| weight).sum();
    kept.iter_mut().for_each(|(_, weight)| *weight /= sum);
    kept
}
