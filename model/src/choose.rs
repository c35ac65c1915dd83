//! Choosing the next token from the logits on the GPU: as little as possible is read back.
//!
//! Greedy reads one id, top-k up to 256 reads k pairs; anything else reads the whole row and sorts on the host, with
//! [`crate::sampler`]. All three give the same token where they are asked for the same.

use qwgpu_runtime::{
    Elem, Gpu, Pass, Staging, Submission, Tensor,
    kernels::{
        Kernels, Row, argmax,
        topk::{MAX_K, Scratch},
    },
};

use crate::{
    Result,
    sampler::{Candidate, SamplerConfig, SeenSet, draw, top_candidates},
};

const ROW_BYTES: u64 = size_of::<Row>() as u64;

/// Buffers of sampling, made once a session.
#[derive(Debug)]
pub(crate) struct Chooser {
    argmax: argmax::Scratch,
    /// Top-k values and ids, f32 and u32, reshaped for each k
    top: Option<(usize, Tensor, Tensor)>,
    scratch: Scratch,
    /// Ids to penalise, u32 `[1, max_seen]`
    seen: Tensor,
    staging: Staging,
    staging_ids: Staging,
    /// Rows of greedy steps, which take turns: one is read while the next is under way.
    staging_rows: [Staging; 2],
}

/// A greedy choice that the GPU has been asked for.
#[derive(Debug)]
pub(crate) struct Asked {
    submission: Submission,
    /// Which of the two staging buffers it goes to.
    turn: usize,
}

/// What [`Chooser::record`] has left to be read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pending {
    Top(usize),
    All,
}

impl Chooser {
    pub(crate) fn new(gpu: &Gpu, vocab_size: usize, ctx: usize) -> Result<Self> {
        Ok(Self {
            argmax: argmax::Scratch::new(gpu, 1, vocab_size)?,
            top: None,
            scratch: Scratch::new(gpu, 1, vocab_size, MAX_K.min(vocab_size))?,
            // distinct ids of a full context and the token that ended it
            seen: Tensor::new(gpu, "seen ids", 1, vocab_size.min(ctx + 1), Elem::U32)?,
            staging: Staging::new(gpu, 4 * vocab_size as u64)?,
            staging_ids: Staging::new(gpu, 4 * MAX_K as u64)?,
            staging_rows: [Staging::new(gpu, ROW_BYTES)?, Staging::new(gpu, ROW_BYTES)?],
        })
    }

    /// Submits a pass that ends with the greedy choice from `logits` `[1, vocab_size]`. The id goes into the first of `rows`, where
    /// the next pass finds it without the host's help. `turn` alternates from one choice to the next.
    pub(crate) fn ask(&self, mut pass: Pass<'_>, kernels: &Kernels, logits: &Tensor, n_valid: usize, rows: &Tensor, turn: usize) -> Asked {
        kernels.argmax.dispatch(&mut pass, logits, n_valid, &self.argmax, rows);
        pass.copy_out(&rows.narrow(1), &self.staging_rows[turn % 2]);
        Asked {
            submission: pass.submit_numbered(),
            turn,
        }
    }

    /// Waits for a choice, and for nothing that was submitted after it.
    pub(crate) fn answer(&self, gpu: &Gpu, asked: &Asked) -> Result<u32> {
        let row = self.staging_rows[asked.turn % 2].wait_for(gpu, &asked.submission, ROW_BYTES)?;
        Ok(bytemuck::pod_read_unaligned::<Row>(&row).token)
    }

    /// Records the penalty for tokens that have been seen, if `config` has one.
    pub(crate) fn penalise(&self, pass: &mut Pass<'_>, kernels: &Kernels, logits: &Tensor, config: &SamplerConfig, seen: &SeenSet) {
        if config.has_penalty() && !seen.ids().is_empty() {
            self.seen.write(pass.gpu(), seen.ids());
            kernels
                .penalty
                .dispatch(pass, logits, 0, &self.seen, seen.ids().len(), config.repetition_penalty);
        }
    }

    /// Records what the host needs to know of `logits` `[1, vocab_size]` for a choice that is not greedy.
    pub(crate) fn record(
        &mut self,
        pass: &mut Pass<'_>,
        kernels: &Kernels,
        logits: &Tensor,
        n_valid: usize,
        config: &SamplerConfig,
    ) -> Result<Pending> {
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
