//! Choosing the next token from the logits, on the CPU.
//!
//! This is the specification of what `choose` has the GPU do. The order and meaning of the filters are those of Hugging Face
//! transformers (`generation/logits_process.py`): repetition penalty, temperature, top-k, top-p, min-p, then a draw among what is
//! left, in order of id. Filters work on a list of candidates sorted by logit ([`top_candidates`]). Equal logits go by the lower id,
//! everywhere, so that results do not depend on how a sort or a GPU got there; for top-k this means exactly k candidates, where
//! transformers keeps all that tie with the last.

mod seen;

use std::cmp::Ordering;

use qwgpu_runtime::philox;

use crate::{Error, Result};

pub use seen::SeenSet;

/// How to sample. [`greedy`](Self::greedy) is the default.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplerConfig {
    /// Divides the logits; 0 always takes the best.
    pub temperature: f32,
    /// Keep only this many best candidates; 0 keeps all.
    pub top_k: usize,
    /// Keep the fewest best candidates whose probabilities sum to at least this; 1 keeps all.
    pub top_p: f32,
    /// Drop candidates less probable than this fraction of the best one's probability; 0 keeps all.
    pub min_p: f32,
    /// Lowers the logits of tokens that have occurred; 1 leaves them.
    pub repetition_penalty: f32,
    /// The key of the random numbers: the same seed gives the same text.
    pub seed: u64,
}

impl Default for SamplerConfig {
    fn default() -> Self {
        Self::greedy()
    }
}

impl SamplerConfig {
    /// Always the best token, nothing penalised.
    #[must_use]
    pub const fn greedy() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            seed: 0,
        }
    }

    /// Whether the best candidate is taken without a draw: the temperature is 0, or top-k leaves only one.
    #[must_use]
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0 || self.top_k == 1
    }

    /// Whether logits of seen tokens change at all.
    #[must_use]
    pub fn has_penalty(&self) -> bool {
        self.repetition_penalty != 1.0
    }

    /// How many best candidates [`draw`] needs for an exact result; 0 stands for all, as in [`top_candidates`].
    #[must_use]
    pub fn n_candidates(&self) -> usize {
        if self.is_greedy() { 1 } else { self.top_k }
    }

    /// Checks the ranges of all values.
    ///
    /// # Errors
    /// [`Error::Option`] naming the first option whose value makes no sense.
    pub fn validate(&self) -> Result<()> {
        // NaN fails every comparison, and so every one of these.
        let checks = [
            (
                "--temperature",
                self.temperature,
                (0.0..=f32::MAX).contains(&self.temperature),
                "it must be 0 or a positive number",
            ),
            (
                "--top-p",
                self.top_p,
                (0.0..=1.0).contains(&self.top_p),
                "it must lie between 0 and 1 (1 is off)",
            ),
            (
                "--min-p",
                self.min_p,
                (0.0..=1.0).contains(&self.min_p),
                "it must lie between 0 (off) and 1",
            ),
            (
                "--repetition-penalty",
                self.repetition_penalty,
                self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite(),
                "it must be a positive number (1 is off)",
            ),
        ];
        match checks.into_iter().find(|(_, _, is_valid, _)| !is_valid) {
            Some((option, value, _, reason)) => Err(Error::Option {
                option: option.into(),
                value: value.to_string(),
                reason: reason.into(),
            }),
            None => Ok(()),
        }
    }
}

/// A token that may come next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The token.
    pub id: u32,
    /// Its logit, after the repetition penalty.
    pub logit: f32,
}

impl Candidate {
    /// The order of all candidate lists: higher logits first, NaN last, equal ones by the lower id.
    #[must_use]
    pub fn order(&self, other: &Self) -> Ordering {
        self.sort_key().cmp(&other.sort_key())
    }

    /// An integer that sorts in that order, which is several times faster to sort than floats under a comparison.
    fn sort_key(&self) -> u64 {
        let descending = if self.logit.is_nan() {
            u32::MAX
        } else {
            // Adding zero turns -0 into 0, which it equals. The bits of a positive float rise with it, those of a negative one fall.
            let bits = (self.logit + 0.0).to_bits();
            if bits >> 31 == 0 { !(bits | 1 << 31) } else { bits }
        };
        u64::from(descending) << 32 | u64::from(self.id)
    }
}

/// Lowers the logits of all seen tokens, each once however often it occurred: a negative one is multiplied by `penalty`, any other
/// divided by it (Keskar et al., "CTRL", 2019, section 4.1, in the form of transformers' `RepetitionPenaltyLogitsProcessor`).
///
/// `logits` is `[vocab_size]`; seen ids beyond it are passed over.
pub fn apply_repetition_penalty(logits: &mut [f32], seen: &SeenSet, penalty: f32) {
    for &id in seen.ids() {
        if let Some(logit) = logits.get_mut(id as usize) {
            *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
        }
    }
}

/// The best `k` of the first `n_valid` logits, in [`Candidate::order`]; all of them if `k` is 0.
///
/// `logits` is `[vocab_size]`, of which rows from `n_valid` on are padding and never candidates.
///
/// # Panics
/// If `n_valid` is 0: there would be nothing to choose.
#[must_use]
pub fn top_candidates(logits: &[f32], n_valid: usize, k: usize) -> Vec<Candidate> {
    assert!(n_valid > 0, "a vocabulary has tokens");
    let valid = &logits[..n_valid.min(logits.len())];
    let candidates = valid.iter().zip(0..).map(|(&logit, id)| Candidate { id, logit });
    if k == 1 {
        return candidates.min_by_key(Candidate::sort_key).into_iter().collect();
    }
    let mut keys: Vec<u64> = candidates.map(|candidate| candidate.sort_key()).collect();
    if k > 0 && k < keys.len() {
        keys.select_nth_unstable(k);
        keys.truncate(k);
    }
    keys.sort_unstable();
    // The low half of a key is the id.
    keys.into_iter()
        .map(|key| key as u32)
        .map(|id| Candidate {
            id,
            logit: valid[id as usize],
        })
        .collect()
}

/// The tokens that [`draw`] chooses among, with their probabilities (they sum to 1), best first.
///
/// `sorted` is in [`Candidate::order`] and already penalised. It must hold at least [`SamplerConfig::n_candidates`] (or the whole
/// vocabulary) for probabilities over the vocabulary; with fewer, they are probabilities among those given.
///
/// A logit of +infinity leaves nothing else, as does a temperature of 0. NaN never takes part. Where no logit is above -infinity
/// there is no distribution, and the first candidate, the one with the lowest id, gets it all.
///
/// # Panics
/// If `sorted` is empty.
#[must_use]
pub fn distribution(sorted: &[Candidate], config: &SamplerConfig) -> Vec<(u32, f64)> {
    let best = *sorted.first().expect("there is at least one candidate to choose from");
    if config.is_greedy() || !best.logit.is_finite() {
        return vec![(best.id, 1.0)];
    }
    let n = if config.top_k == 0 {
        sorted.len()
    } else {
        config.top_k.min(sorted.len())
    };
    // Weights relative to the best candidate's, which is 1: the softmax before its division.
    let weight = |candidate: &Candidate| {
        let logit = f64::from(candidate.logit) - f64::from(best.logit);
        (logit / f64::from(config.temperature)).exp()
    };
    let mut kept: Vec<(u32, f64)> = sorted[..n]
        .iter()
        .take_while(|candidate| !candidate.logit.is_nan())
        .map(|candidate| (candidate.id, weight(candidate)))
        .collect();
    if config.top_p < 1.0 {
        // TopPLogitsWarper drops, from the least probable on, what sums to at most 1 - top_p; that is, it keeps a token as long as
        // those before it sum to less than top_p. The best stays in any case.
        let enough = f64::from(config.top_p) * kept.iter().map(|&(_, weight)| weight).sum::<f64>();
        let mut sum_before = 0.0;
        let n_kept = kept
            .iter()
            .take_while(|&&(_, weight)| {
                let keep = sum_before < enough;
                sum_before += weight;
                keep
            })
            .count();
        kept.truncate(n_kept.max(1));
    }
    if config.min_p > 0.0 {
        // MinPLogitsWarper compares probabilities after top-p; the division by their sum is on both sides.
        let n_kept = kept.partition_point(|&(_, weight)| weight >= f64::from(config.min_p));
        kept.truncate(n_kept.max(1));
    }
    let sum: f64 = kept.iter().map(|&(_, weight)| weight).sum();
    kept.iter_mut().for_each(|(_, weight)| *weight /= sum);
    kept
}

/// Draws the next token from penalised candidates sorted in [`Candidate::order`]; see [`distribution`] for what they must be: in order
/// of id, the first at which the sum of probabilities exceeds the random number.
///
/// The random number depends on `config.seed` and `step` alone. `step` is the position of the token drawn, so that a text
/// continued from a cached prefix is the text that would have been had it been computed in one go.
///
/// # Panics
/// If `sorted` is empty.
#[must_use]
pub fn draw(sorted: &[Candidate], config: &SamplerConfig, step: u64) -> u32 {
    let mut distribution = distribution(sorted, config);
    distribution.sort_unstable_by_key(|&(id, _)| id);
    let target = philox::uniform(config.seed, step);
    let mut sum = 0.0;
    let mut last = distribution[0].0;
    for (id, probability) in distribution {
        if probability > 0.0 {
            sum += probability;
            last = id;
        }
        if target < sum {
            break;
        }
    }
    // If rounding leaves the sum short of 1 and the number falls into the gap, it belongs to the last token possible.
    last
}
