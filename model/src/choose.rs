//! Choosing the next token from the logits on the GPU: as little as possible is read back.
//!
//! Greedy reads one id, top-k up to 256 reads k pairs; anything else reads the whole row and sorts on the host. The host part is
//! [`crate::sampler`] in every case, so all three give the same token.

use qwgpu_runtime::{
    Elem, Gpu, Pass, Staging, Tensor,
    kernels::{
        Kernels, argmax,
        topk::{MAX_K, Scratch},
    },
};

use crate::{
    Result,
    sampler::{Candidate, SamplerConfig, SeenSet, draw, top_candidates},
};

/// Buffers of sampling, made once a session.
#[derive(Debug)]
pub(crate) struct Chooser {
    /// u32 `[1, 1]`
    best: Tensor,
    argmax: argmax::Scratch,
    /// Top-k values and ids, f32 and u32, reshaped for each k
    top: Option<(usize, Tensor, Tensor)>,
    scratch: Scratch,
    /// Ids to penalise, u32 `[1, max_seen]`
    seen: Tensor,
    staging: Staging,
    staging_ids: Staging,
}

/// What [`Chooser::record`] has left to be read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pending {
    Best,
    Top(usize),
    All,
}

impl Chooser {
    pub(crate) fn new(gpu: &Gpu, vocab_size: usize, ctx: usize) -> Result<Self> {
        Ok(Self {
            best: Tensor::new(gpu, "best id", 1, 1, Elem::U32)?,
            argmax: argmax::Scratch::new(gpu, 1, vocab_size)?,
            top: None,
            scratch: Scratch::new(gpu, 1, vocab_size, MAX_K.min(vocab_size))?,
            // distinct ids of a full context and the token that ended it
            seen: Tensor::new(gpu, "seen ids", 1, vocab_size.min(ctx + 1), Elem::U32)?,
            staging: Staging::new(gpu, 4 * vocab_size as u64)?,
            staging_ids: Staging::new(gpu, 4 * MAX_K as u64)?,
        })
    }

    /// Records what the host needs to know of `logits` `[1, vocab_size]` for one choice.
    pub(crate) fn record(
        &mut self,
        pass: &mut Pass<'_>,
        kernels: &Kernels,
        logits: &Tensor,
        n_valid: usize,
        config: &SamplerConfig,
        seen: &SeenSet,
    ) -> Result<Pending> {
        if config.has_penalty() && !seen.ids().is_empty() {
            self.seen.write(pass.gpu(), seen.ids());
            kernels
                .penalty
                .dispatch(pass, logits, 0, &self.seen, seen.ids().len(), config.repetition_penalty);
        }
        if config.is_greedy() {
            kernels.argmax.dispatch(pass, logits, n_valid, &self.argmax, &self.best);
            pass.copy_out(&self.best, &self.staging);
            return Ok(Pending::Best);
        }
        let k = config.n_candidates().min(n_valid);
        if k == 0 || k > MAX_K.min(logits.cols()) {
            pass.copy_out(logits, &self.staging);
            return Ok(Pending::All);
        }
        if self.top.as_ref().is_none_or(|(made_for, ..)| *made_for != k) {
            let values = Tensor::new(pass.gpu(), "top values", 1, k, Elem::F32)?;
            self.top = Some((k, values, Tensor::new(pass.gpu(), "top ids", 1, k, Elem::U32)?));
        }
        if let Some((_, values, ids)) = &self.top {
            kernels.topk.dispatch(pass, logits, n_valid, &self.scratch, values, ids);
            pass.copy_out(values, &self.staging);
            pass.copy_out(ids, &self.staging_ids);
        }
        Ok(Pending::Top(k))
    }

    /// Waits for the pass and chooses. `step` keys the random number.
    pub(crate) fn finish(
        &self,
        gpu: &Gpu,
        pending: Pending,
        vocab_size: usize,
        n_valid: usize,
        config: &SamplerConfig,
        step: u64,
    ) -> Result<u32> {
        let floats = |n: usize| -> Result<Vec<f32>> { Ok(bytemuck::pod_collect_to_vec(&self.staging.wait(gpu, 4 * n as u64)?)) };
        let ints =
            |staging: &Staging, n: usize| -> Result<Vec<u32>> { Ok(bytemuck::pod_collect_to_vec(&staging.wait(gpu, 4 * n as u64)?)) };
        match pending {
            Pending::Best => Ok(ints(&self.staging, 1)?[0]),
            Pending::Top(k) => {
                let (values, ids) = (floats(k)?, ints(&self.staging_ids, k)?);
                let pairs: Vec<Candidate> = values.into_iter().zip(ids).map(|(logit, id)| Candidate { id, logit }).collect();
                Ok(draw(&pairs, config, step))
            }
            Pending::All => Ok(draw(
                &top_candidates(&floats(vocab_size)?, n_valid, config.n_candidates()),
                config,
                step,
            )),
        }
    }
}
