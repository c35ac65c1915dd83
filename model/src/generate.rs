//! Generation: an iterator of token ids over a session.
//!
//! The GPU chooses the token, advances the row and goes on with the next step, which it has before the host has read the token: it
//! never waits for the host. What was computed beyond the last token is left in the cache, where the next feed writes over it.

use std::time::{Duration, Instant};

use qwgpu_runtime::Pass;

use crate::{Error, Model, Result, Session, choose::Asked, sampler::SamplerConfig};

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
    /// The token that was yielded last and is not in the cache yet.
    last: Option<u32>,
    /// The choice of the step that feeds `last`, submitted before `last` was known.
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
        self.aim();
        if options.sampler.has_penalty() {
            self.chooser.set_seen(&self.model.gpu, self.model.config().vocab_size, prompt);
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

    /// The next token, with the pass after it submitted before it is read.
    fn step(&mut self) -> Result<u32> {
        let model = self.session.model.clone();
        let asked = match (self.ahead.take(), self.last.take()) {
            (Some(asked), Some(last)) => {
                self.session.advance(&[last], true);
                asked
            }
            _ => {
                assert!(self.session.has_logits(), "a generation begins with the logits of its prompt");
                self.ask(&model, Pass::new(&model.gpu), self.stats.generated_tokens)
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
        let (logits, row) = (self.session.logits_row(), self.session.row());
        let (chooser, sampler) = (&self.session.chooser, &self.options.sampler);
        chooser.ask(pass, &model.kernels, (&logits, model.n_valid()), sampler, &row, turn)
    }

    /// Whether a step after the one at hand is wanted as far as can be known, and fits.
    fn may_run_ahead(&self) -> bool {
        let wanted = self.stats.generated_tokens + 1 < self.options.max_tokens;
        wanted && self.session.ids().len() < self.session.ctx()
    }

    fn next_token(&mut self) -> Result<Option<u32>> {
        self.stop = self.must_stop();
        if self.stop.is_some() {
            return Ok(None);
        }
        let started = Instant::now();
        let id = self.step()?;
        if self.stats.first_token.is_zero() {
            self.stats.first_token = self.started.elapsed();
        } else {
            self.stats.decode += started.elapsed();
        }
        if self.options.stop_ids.contains(&id) {
            self.stop = Some(StopReason::StopToken(id));
            return Ok(None);
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
