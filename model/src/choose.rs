//! Choosing the next token from the logits on the GPU, where it becomes the input of the next step: only the id is read back.
//!
//! Greedy is an argmax. Otherwise one kernel applies top-k, top-p and min-p and draws, with [`crate::sampler`] as its specification;
//! a top-k of up to 256 has a kernel before it that leaves few candidates of each stretch of the vocabulary.

use qwgpu_runtime::{
    Elem, Gpu, Pass, Staging, Submission, Tensor,
    kernels::{
        Kernels, Row, argmax,
        penalty::{seen_bits, seen_words},
        sample::{Candidates, Draw},
        topk::{MAX_K, n_candidates},
    },
};

use crate::{Result, sampler::SamplerConfig};

const ROW_BYTES: u64 = size_of::<Row>() as u64;

/// Buffers of sampling, made once a session.
#[derive(Debug)]
pub(crate) struct Chooser {
    argmax: argmax::Scratch,
    /// Candidates under top-k, u32 `[1, n_candidates]` for the largest k
    keys: Tensor,
    ids: Tensor,
    /// One bit for each id that has occurred, u32 `[1, seen_words]`
    seen: Tensor,
    /// Chosen rows, which take turns: one is read while the next is under way.
    staging: [Staging; 2],
}

/// A choice that the GPU has been asked for.
#[derive(Debug)]
pub(crate) struct Asked {
    submission: Submission,
    /// Which of the two staging buffers it goes to.
    turn: usize,
}

impl Chooser {
    pub(crate) fn new(gpu: &Gpu, vocab_size: usize) -> Result<Self> {
        let n = n_candidates(vocab_size, MAX_K);
        Ok(Self {
            argmax: argmax::Scratch::new(gpu, 1, vocab_size)?,
            keys: Tensor::new(gpu, "candidate keys", 1, n, Elem::U32)?,
            ids: Tensor::new(gpu, "candidate ids", 1, n, Elem::U32)?,
            seen: Tensor::new(gpu, "seen ids", 1, seen_words(vocab_size), Elem::U32)?,
            staging: [Staging::new(gpu, ROW_BYTES)?, Staging::new(gpu, ROW_BYTES)?],
        })
    }

    /// Says which ids have occurred before the first choice; each token chosen is added on the GPU.
    pub(crate) fn set_seen(&self, gpu: &Gpu, vocab_size: usize, ids: &[u32]) {
        self.seen.write(gpu, &seen_bits(vocab_size, ids));
    }

    /// Submits a pass that ends with a choice from `logits` `[1, vocab_size]`, those of the token in `row` `[1, 4]`. The row then holds the
    /// id and its position, where the next pass finds them without the host's help. `turn` alternates from one choice to the next.
    pub(crate) fn ask(
        &self,
        mut pass: Pass<'_>,
        kernels: &Kernels,
        (logits, n_valid): (&Tensor, usize),
        config: &SamplerConfig,
        row: &Tensor,
        turn: usize,
    ) -> Asked {
        if config.has_penalty() {
            kernels
                .penalty
                .dispatch(&mut pass, logits, &self.seen, row, config.repetition_penalty);
        }
        if config.is_greedy() {
            kernels.argmax.dispatch(&mut pass, logits, n_valid, &self.argmax, row);
        } else {
            let candidates = self.candidates(&mut pass, kernels, logits, n_valid, config.top_k);
            kernels.sample.dispatch(&mut pass, candidates, &draw(config), row);
        }
        pass.copy_out(row, &self.staging[turn % 2]);
        Asked {
            submission: pass.submit_numbered(),
            turn,
        }
    }

    /// Few candidates where top-k allows it, all logits where not.
    fn candidates<'a>(
        &'a self,
        pass: &mut Pass<'_>,
        kernels: &Kernels,
        logits: &'a Tensor,
        n_valid: usize,
        top_k: usize,
    ) -> Candidates<'a> {
        if !(1..=MAX_K).contains(&top_k) {
            return Candidates::Logits { logits, n_valid };
        }
        let (keys, ids) = (&self.keys, &self.ids);
        kernels.topk.dispatch(pass, logits, n_valid, top_k, keys, ids);
        let n = n_candidates(n_valid, top_k);
        Candidates::Top { keys, ids, n }
    }

    /// Waits for a choice, and for nothing that was submitted after it.
    pub(crate) fn answer(&self, gpu: &Gpu, asked: &Asked) -> Result<u32> {
        let row = self.staging[asked.turn % 2].wait_for(gpu, &asked.submission, ROW_BYTES)?;
        Ok(bytemuck::pod_read_unaligned::<Row>(&row).token)
    }
}

/// The kernel's part of a sampler that is not greedy.
const fn draw(config: &SamplerConfig) -> Draw {
    Draw {
        temperature: config.temperature,
        k: config.top_k,
        top_p: config.top_p,
        min_p: config.min_p,
        seed: config.seed,
    }
}
