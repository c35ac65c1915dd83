//! One sequence on a loaded model: its KV cache, its tokens, and feeding more of them.
//!
//! Prefill runs in batches; each is one pass, cut into several submissions where the work would hold the GPU for long. Positions
//! that a new prompt shares with what is cached are not computed again ([`Session::generate`] rewinds to the common prefix).

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use qwgpu_runtime::{
    Elem, Pass, Tap, Tensor, Timing,
    kernels::{
        Row,
        attention::{MAX_SPLIT_ROWS, Plan},
    },
};

use crate::{Error, Model, Result, activations::Activations, choose::Chooser, kv_cache::KvCache, qwen2::Forward};

/// A sequence: what was fed so far lies in the cache.
#[derive(Debug)]
pub struct Session {
    pub(crate) model: Arc<Model>,
    pub(crate) activations: Activations,
    pub(crate) chooser: Chooser,
    cache: KvCache,
    ids: Vec<u32>,
    ctx: usize,
    batch: usize,
    /// Whether row 0 of the logits belongs to the last of `ids`.
    has_logits: bool,
    cancelled: Arc<AtomicBool>,
}

/// Stops a running generation from another thread.
#[derive(Clone, Debug)]
pub struct CancelHandle(Arc<AtomicBool>);

impl CancelHandle {
    /// Ends what runs, be it a feed or a generation, after the batch or token at hand.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One intermediate of a traced forward pass.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Layer; `n_layers` for the final norm and the head. `hidden` counts the embeddings as 0 and layer i as i + 1.
    pub layer: usize,
    /// `hidden`, `input_norm`, `qkv`, `q_rope`, `k_cache`, `v_cache`, `attn_context`, `attn_residual`, `post_norm`, `gate_up`,
    /// `swiglu`, `final_norm` or `logits`. In sparse layers, instead of `gate_up` and `swiglu`: `router_logits`, `topk_ids`,
    /// `topk_weights`, `pairs` (token times slots plus slot, in order of expert), `offsets` (where each expert's begin),
    /// `experts_gate_up`, `experts_swiglu` (both in that order), `experts_out` (in order of token and slot). Ids are whole numbers.
    pub name: &'static str,
    /// Tokens (blocks for the caches).
    pub rows: usize,
    /// Values of a row.
    pub cols: usize,
    /// `[rows, cols]`
    pub values: Vec<f32>,
}

impl Session {
    /// An empty sequence with a cache of the model's whole context.
    ///
    /// # Errors
    /// When the adapter has no room for it.
    pub fn new(model: &Arc<Model>) -> Result<Self> {
        Self::sized(model, model.ctx(), model.batch())
    }

    /// An empty sequence for at most `ctx` tokens, fed in batches of at most `batch`; both are held to the model's own.
    ///
    /// # Errors
    /// When the adapter has no room for it.
    pub fn sized(model: &Arc<Model>, ctx: usize, batch: usize) -> Result<Self> {
        let (gpu, config) = (&model.gpu, &model.config);
        let ctx = ctx.clamp(1, model.ctx());
        let batch = batch.clamp(1, model.batch().min(ctx));
        Ok(Self {
            activations: Activations::new(gpu, config, batch)?,
            chooser: Chooser::new(gpu, config.vocab_size)?,
            cache: KvCache::new(gpu, config, ctx, model.kv())?,
            model: model.clone(),
            ids: Vec::new(),
            ctx,
            batch,
            has_logits: false,
            cancelled: Arc::default(),
        })
    }

    /// The model it runs on.
    #[must_use]
    pub const fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The tokens in the cache.
    #[must_use]
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Tokens that it can hold.
    #[must_use]
    pub const fn ctx(&self) -> usize {
        self.ctx
    }

    /// A handle that stops a generation.
    #[must_use]
    pub fn cancel_handle(&self) -> CancelHandle {
        CancelHandle(self.cancelled.clone())
    }

    /// Whether a cancel has arrived since this was asked last.
    pub(crate) fn take_cancel(&self) -> bool {
        self.cancelled.swap(false, Ordering::Relaxed)
    }

    /// Keeps the first `n_tokens` tokens and forgets the rest.
    pub fn rewind(&mut self, n_tokens: usize) {
        if n_tokens < self.ids.len() {
            self.ids.truncate(n_tokens);
            self.has_logits = false;
        }
    }

    /// Fails unless these ids exist and fit behind what is cached.
    fn check(&self, ids: &[u32]) -> Result<()> {
        let vocab_size = self.model.config.vocab_size;
        if ids.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocab_size) {
            return Err(Error::TokenOutOfRange { id, vocab_size });
        }
        let (needed, ctx) = (self.ids.len() + ids.len(), self.ctx);
        if needed > ctx {
            Err(Error::ContextFull { needed, ctx })
        } else {
            Ok(())
        }
    }

    /// Fails unless these ids are one batch at most.
    fn check_batch(&self, ids: &[u32], what: &str) -> Result<()> {
        if ids.len() <= self.batch {
            return Ok(());
        }
        let reason = format!("{what} of {} tokens needs a batch as large", ids.len());
        Err(Error::Option {
            option: "--batch".into(),
            value: self.batch.to_string(),
            reason,
        })
    }

    /// Appends tokens. The last one's logits are left for [`Session::logits`] and for sampling.
    ///
    /// # Errors
    /// [`Error::EmptyPrompt`], [`Error::TokenOutOfRange`], [`Error::ContextFull`], [`Error::Cancelled`] between two batches (what
    /// was fed until then stays), or a failing device.
    pub fn feed(&mut self, ids: &[u32]) -> Result<()> {
        self.check(ids)?;
        let model = self.model.clone();
        let n_batches = ids.len().div_ceil(self.batch);
        for (i, batch) in ids.chunks(self.batch).enumerate() {
            if i > 0 && self.take_cancel() {
                return Err(Error::Cancelled);
            }
            let mut pass = Pass::new(&model.gpu);
            self.record(&mut pass, batch)?;
            if i + 1 == n_batches {
                self.forward().head(&mut pass, batch.len() - 1, 1)?;
            }
            pass.submit();
            self.advance(batch, i + 1 == n_batches);
            // one batch behind at most: a cancel is heard, and uploads do not pile up
            model.gpu.wait()?;
        }
        Ok(())
    }

    /// Logits `[vocab_size]` of the last token that was fed. A generation with a repetition penalty leaves penalised ones; one that
    /// ended early, at a stop token, say, leaves none.
    ///
    /// # Errors
    /// [`Error::EmptyPrompt`] when there are none: nothing was fed since the last rewind; or a failing device.
    pub fn logits(&mut self) -> Result<Vec<f32>> {
        if !self.has_logits {
            return Err(Error::EmptyPrompt);
        }
        Ok(self.logits_row().read_f32(&self.model.gpu)?)
    }

    /// How often each expert was chosen since the session began, as layer and counts `[n_experts]` for every sparse layer; empty for a dense
    /// model. Tokens that a generation computed ahead and threw away are counted too.
    ///
    /// # Errors
    /// When the device has failed.
    pub fn expert_usage(&self) -> Result<Vec<(usize, Vec<u32>)>> {
        let Some(experts) = &self.activations.experts else {
            return Ok(Vec::new());
        };
        let counts = experts.usage.read_u32(&self.model.gpu)?;
        let layers = counts.chunks_exact(experts.usage.cols()).enumerate();
        let sparse = layers.filter(|(layer, _)| self.model.config.experts(*layer).is_some());
        Ok(sparse.map(|(layer, counts)| (layer, counts.to_vec())).collect())
    }

    /// Appends tokens and hands out the logits of every one, in blocks of rows: first position, then `[n_rows * vocab_size]`.
    ///
    /// # Errors
    /// As [`Session::feed`].
    pub fn feed_all_logits(&mut self, ids: &[u32], each: &mut dyn FnMut(usize, &[f32])) -> Result<()> {
        self.check(ids)?;
        let model = self.model.clone();
        for batch in ids.chunks(self.batch) {
            if self.take_cancel() {
                return Err(Error::Cancelled);
            }
            let first = self.ids.len();
            let mut pass = Pass::new(&model.gpu);
            self.record(&mut pass, batch)?;
            pass.submit();
            self.advance(batch, false);
            let block = self.activations.logits.rows();
            for row in (0..batch.len()).step_by(block) {
                let n_rows = block.min(batch.len() - row);
                let mut pass = Pass::new(&model.gpu);
                self.forward().head(&mut pass, row, n_rows)?;
                pass.submit();
                each(first + row, &self.activations.logits.narrow(n_rows).read_f32(&model.gpu)?);
            }
        }
        Ok(())
    }

    /// Appends at most one batch of tokens and gives every intermediate: for finding the stage where a fault begins.
    ///
    /// # Errors
    /// As [`Session::feed`]; [`Error::Option`] for more than a batch.
    pub fn trace(&mut self, ids: &[u32]) -> Result<Vec<Trace>> {
        self.trace_layers(ids, None)
    }

    /// As [`Session::trace`], of these layers only: large models have more intermediates than memory.
    ///
    /// # Errors
    /// As [`Session::trace`].
    pub fn trace_layers(&mut self, ids: &[u32], layers: Option<&[usize]>) -> Result<Vec<Trace>> {
        self.check(ids)?;
        let model = self.model.clone();
        self.check_batch(ids, "a trace")?;
        let mut pass = Pass::tapped(&model.gpu, layers);
        self.record(&mut pass, ids)?;
        let block = self.activations.logits.rows();
        for row in (0..ids.len()).step_by(block) {
            self.forward().head(&mut pass, row, block.min(ids.len() - row))?;
        }
        let taps = pass.submit();
        self.advance(ids, false);
        join(&taps, |tensor| match tensor.elem() {
            Elem::U32 => Ok(tensor.read_u32(&model.gpu)?.into_iter().map(|id| id as f32).collect()),
            Elem::F32 | Elem::F16 => Ok(tensor.read_f32(&model.gpu)?),
        })
    }

    /// Appends at most one batch of tokens and gives the GPU time of each dispatch, head included, in order. Dispatches do not overlap while
    /// they are timed, so the sum is more than an untimed pass takes.
    ///
    /// # Errors
    /// As [`Session::trace`]; a missing feature where the adapter has no timestamps.
    pub fn profile(&mut self, ids: &[u32]) -> Result<Vec<Timing>> {
        self.check(ids)?;
        self.check_batch(ids, "a profile")?;
        let model = self.model.clone();
        let mut pass = Pass::timed(&model.gpu)?;
        self.record(&mut pass, ids)?;
        self.forward().head(&mut pass, ids.len() - 1, 1)?;
        let timings = pass.submit_timed()?;
        self.advance(ids, true);
        Ok(timings)
    }

    /// Records all layers for a batch that continues the sequence.
    pub(crate) fn record(&self, pass: &mut Pass<'_>, batch: &[u32]) -> Result<()> {
        let gpu = &self.model.gpu;
        let first = self.ids.len() as u32;
        let rows: Vec<Row> = (first..).zip(batch).map(|(pos, &token)| row_at(pos, token)).collect();
        self.activations.rows.write(gpu, &rows);
        let plan = self.plan(batch.len());
        self.forward().layers(pass, batch.len(), &plan)
    }

    /// As [`Session::record`], for one token that only the GPU knows: [`Chooser::ask`] has left it in the row, with its position.
    pub(crate) fn record_chosen(&self, pass: &mut Pass<'_>) -> Result<()> {
        self.forward().layers(pass, 1, &self.plan(1))
    }

    /// Puts the last token into the row that choices advance, whatever batch it was fed in.
    pub(crate) fn aim(&self) {
        let Some((last, before)) = self.ids.split_last() else { return };
        let row = row_at(before.len() as u32, *last);
        self.activations.rows.write(&self.model.gpu, &[row]);
    }

    /// The row that choices advance, u32 `[1, 4]`.
    pub(crate) fn row(&self) -> Tensor {
        self.activations.rows.narrow(1)
    }

    /// Splits of the context for few rows, tiles of queries for many.
    fn plan(&self, n_tokens: usize) -> Plan {
        let (gpu, config) = (&self.model.gpu, &self.model.config);
        if n_tokens <= MAX_SPLIT_ROWS {
            let attention = &self.model.kernels.attention;
            return Plan::Split(attention.n_splits(gpu, n_tokens, config.n_kv_heads, self.ids.len() + n_tokens));
        }
        let tiles = self.model.kernels.attention.tiles(&vec![0; n_tokens]);
        self.activations.tiles.write(gpu, &tiles);
        Plan::Tiled(self.activations.tiles.narrow(tiles.len()))
    }

    /// Counts a batch as cached.
    pub(crate) fn advance(&mut self, batch: &[u32], has_logits: bool) {
        self.ids.extend(batch);
        self.has_logits = has_logits;
    }

    /// Says that the logits belong to no token of the sequence.
    pub(crate) fn forget_logits(&mut self) {
        self.has_logits = false;
    }

    pub(crate) const fn has_logits(&self) -> bool {
        self.has_logits
    }

    /// Row 0 of the logits, `[1, vocab_size]`.
    pub(crate) fn logits_row(&self) -> Tensor {
        self.activations.logits.narrow(1)
    }

    pub(crate) fn forward(&self) -> Forward<'_> {
        let model = &*self.model;
        Forward {
            config: &model.config,
            kernels: &model.kernels,
            weights: &model.weights,
            rope_table: &model.rope_table,
            activations: &self.activations,
            cache: &self.cache,
        }
    }
}

/// A token of the one sequence that a session holds.
const fn row_at(pos: u32, token: u32) -> Row {
    Row {
        token,
        slot: 0,
        pos,
        rope_pos: pos,
    }
}

/// Reads taps; those of the head come in blocks of rows and are joined.
fn join(taps: &[Tap], read: impl Fn(&Tensor) -> Result<Vec<f32>>) -> Result<Vec<Trace>> {
    let mut traces: Vec<Trace> = Vec::new();
    for tap in taps {
        let values = read(&tap.tensor)?;
        let (rows, cols) = (tap.tensor.rows(), tap.tensor.cols());
        match traces.iter_mut().find(|trace| trace.layer == tap.layer && trace.name == tap.name) {
            Some(trace) => {
                trace.rows += rows;
                trace.values.extend(values);
            }
            None => traces.push(Trace {
                layer: tap.layer,
                name: tap.name,
                rows,
                cols,
                values,
            }),
        }
    }
    Ok(traces)
}
