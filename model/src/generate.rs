//! Generation: an iterator of token ids over a session.
//!
//! A greedy generation runs one step ahead: the GPU has the next step before the host has read the token that it begins with, so that
//! it never waits for the host. What was computed beyond the last token is left in the cache, where the next feed writes over it.

use std::time::{Duration, Instant};

use qwgpu_runtime::Pass;

use crate::{
    Error, Model, Result, Session,
    choose::Asked,
    sampler::{SamplerConfig, SeenSet},
};

/// How to continue a prompt.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    /// How tokens are chosen.
    pub sampler: SamplerConfig,
    /// Tokens to generate at most.
    pub max_tokens: usize,
    /// Ids that end the answer; usually [`crate::Model::stop_ids`].
    pub stop_ids: Vec<u32>,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The model chose one of the stop ids.
    StopToken(u32),
    /// `max_tokens` were generated.
    MaxTokens,
    /// The context is full.
    ContextFull,
    /// [`crate::CancelHandle::cancel`] was called.
    Cancelled,
}

impl StopReason {
    /// The word that JSON outputs use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::StopToken(_) => "stop",
            Self::MaxTokens => "length",
            Self::ContextFull => "context",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Counts and times of one generation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of these, found in the cache.
    pub cached_tokens: usize,
    /// Tokens generated, the stop token not counted.
    pub generated_tokens: usize,
    /// Time of the prompt's forward passes.
    pub prefill: Duration,
    /// Time of all tokens after the first.
    pub decode: Duration,
    /// From the call of [`Session::generate`] to the first token.
    pub first_token: Duration,
}

/// A running generation; yields ids until it stops. Stop ids are not yielded.
#[derive(Debug)]
pub struct Tokens<'s> {
    session: &'s mut Session,
    options: GenerateOptions,
    seen: SeenSet,
    /// The token that was yielded last and is not in the cache yet.
    last: Option<u32>,
    /// The greedy choice of the step that feeds `last`, if it was submitted before `last` was known.
    ahead: Option<Asked>,
    stop: Option<StopReason>,
    failed: bool,
    stats: Stats,
    started: Instant,
}

impl Session {
    /// Feeds the prompt and starts to generate. Tokens that the prompt shares with what is cached are not computed again.
    ///
    /// # Errors
    /// As [`Session::feed`], and an invalid sampler. A cancel during the prompt is no error: the iterator ends at once.
    pub fn generate(&mut self, prompt: &[u32], options: &GenerateOptions) -> Result<Tokens<'_>> {
        options.sampler.validate()?;
        if prompt.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        if prompt.len() > self.ctx() {
            return Err(Error::ContextFull {
                needed: prompt.len(),
                ctx: self.ctx(),
            });
        }
        // a cancel that came after the last answer had ended is not meant for this one
        self.take_cancel();
        let started = Instant::now();
        let common = self.ids().iter().zip(prompt).take_while(|(a, b)| a == b).count();
        // the last token runs again at least: its logits are needed
        let cached = common.min(prompt.len() - 1);
        self.rewind(cached);
        let stop = match self.feed(&prompt[cached..]) {
            Ok(()) => None,
            Err(Error::Cancelled) => Some(StopReason::Cancelled),
            Err(error) => return Err(error),
        };
        let mut seen = SeenSet::new(self.model.config().vocab_size);
        if options.sampler.has_penalty() {
            seen.extend(prompt.iter().copied());
        }
        let stats = Stats {
            prompt_tokens: prompt.len(),
            cached_tokens: cached,
            prefill: started.elapsed(),
            ..Stats::default()
        };
        Ok(Tokens {
            session: self,
            options: options.clone(),
            seen,
            last: None,
            ahead: None,
            stop,
            failed: false,
            stats,
            started,
        })
    }
}

impl Tokens<'_> {
    /// Why it ended; `None` while it runs or after an error.
    #[must_use]
    pub const fn stop_reason(&self) -> Option<StopReason> {
        self.stop
    }

    /// Counts and times so far.
    #[must_use]
    pub const fn stats(&self) -> Stats {
        self.stats
    }

    /// Why no further token may be computed.
    fn must_stop(&self) -> Option<StopReason> {
        let full = self.last.is_some() && self.session.ids().len() >= self.session.ctx();
        if self.session.take_cancel() {
            Some(StopReason::Cancelled)
        } else if self.stats.generated_tokens >= self.options.max_tokens {
            Some(StopReason::MaxTokens)
        } else if full {
            Some(StopReason::ContextFull)
        } else {
            None
        }
    }

    /// Records the last token through the layers and the head, and the penalties for what has been seen.
    fn record_last(&mut self, model: &Model, pass: &mut Pass<'_>) -> Result<()> {
        let session = &mut *self.session;
        if let Some(last) = self.last.take() {
            session.record(pass, &[last])?;
            session.forward().head(pass, 0, 1)?;
            session.advance(&[last], true);
        }
        assert!(session.has_logits(), "a running generation always has logits");
        let (logits, sampler) = (session.logits_row(), &self.options.sampler);
        session.chooser.penalise(pass, &model.kernels, &logits, sampler, &self.seen);
        Ok(())
    }

    /// One pass: the last token through the layers, the head, and the choice of the next.
    fn sampled_step(&mut self) -> Result<u32> {
        let model = self.session.model.clone();
        let mut pass = Pass::new(&model.gpu);
        self.record_last(&model, &mut pass)?;
        let session = &mut *self.session;
        let (logits, sampler) = (session.logits_row(), &self.options.sampler);
        let n_valid = model.n_valid();
        let pending = session.chooser.record(&mut pass, &model.kernels, &logits, n_valid, sampler)?;
        pass.submit();
        let step = session.ids().len() as u64;
        session.chooser.finish(&model.gpu, pending, logits.cols(), n_valid, sampler, step)
    }

    /// The same for a greedy choice, with the next pass submitted before this one's token is read.
    fn greedy_step(&mut self) -> Result<u32> {
        let model = self.session.model.clone();
        let asked = match (self.ahead.take(), self.last) {
            (Some(asked), Some(last)) => {
                self.last = None;
                self.session.advance(&[last], true);
                asked
            }
            _ => {
                let mut pass = Pass::new(&model.gpu);
                self.record_last(&model, &mut pass)?;
                self.ask(&model, pass, self.stats.generated_tokens)
            }
        };
        if self.may_run_ahead() {
            let mut pass = Pass::new(&model.gpu);
            self.session.record_chosen(&mut pass)?;
            self.session.forward().head(&mut pass, 0, 1)?;
            self.ahead = Some(self.ask(&model, pass, self.stats.generated_tokens + 1));
            self.session.forget_logits(); // they are those of a token that is not in the sequence yet
        }
        self.session.chooser.answer(&model.gpu, &asked)
    }

    fn ask(&self, model: &Model, pass: Pass<'_>, turn: usize) -> Asked {
        let (logits, rows) = (self.session.logits_row(), &self.session.activations.rows);
        let chooser = &self.session.chooser;
        chooser.ask(pass, &model.kernels, &logits, model.n_valid(), rows, turn)
    }

    /// Whether a step after the one at hand is wanted as far as can be known, fits, and needs nothing of the host.
    fn may_run_ahead(&self) -> bool {
        let wanted = self.stats.generated_tokens + 1 < self.options.max_tokens;
        wanted && self.session.ids().len() < self.session.ctx() && !self.options.sampler.has_penalty()
    }

    fn next_token(&mut self) -> Result<Option<u32>> {
        self.stop = self.must_stop();
        if self.stop.is_some() {
            return Ok(None);
        }
        let started = Instant::now();
        let id = if self.options.sampler.is_greedy() {
            self.greedy_step()?
        } else {
            self.sampled_step()?
        };
        if self.stats.first_token.is_zero() {
            self.stats.first_token = self.started.elapsed();
        } else {
            self.stats.decode += started.elapsed();
        }
        if self.options.stop_ids.contains(&id) {
            self.stop = Some(StopReason::StopToken(id));
            return Ok(None);
        }
        if self.options.sampler.has_penalty() {
            self.seen.insert(id);
        }
        self.last = Some(id);
        self.stats.generated_tokens += 1;
        Ok(Some(id))
    }
}

impl Iterator for Tokens<'_> {
    type Item = Result<u32>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.stop.is_some() {
            return None;
        }
        let next = self.next_token();
        if next.is_err() {
            // an iterator that has failed does not try again
            self.failed = true;
        }
        next.transpose()
    }
}
