//! From a checkpoint, or from nothing, to a model on the GPU.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use qwgpu_runtime::{
    DType, Elem, Gpu, Tensor,
    kernels::{KernelOptions, Kernels},
};

use crate::{
    Error, Result,
    activations::Activations,
    chat::ChatTemplate,
    checkpoint::Checkpoint,
    config::{Config, GenerationConfig},
    plan::MemoryPlan,
    rope::RopeTable,
    tokenizer::Tokenizer,
    weights::{self, Loader, Storage, Weights},
};

/// Context where none is asked for: enough for a long chat, small enough for a laptop.
const DEFAULT_CTX: usize = 4096;

/// How to load a model.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Storage of the weights on the GPU; `None` keeps the checkpoint's own where the plan fits, else takes q8, else q4. Under q4 the
    /// matrix that makes the logits is kept in q8, and with it an embedding that is the same.
    pub dtype: Option<DType>,
    /// Storage of the KV cache; `None` takes f16 where the adapter has it, else f32.
    pub kv: Option<Elem>,
    /// Tokens that a session can hold; `None` takes the model's maximum, 4,096 at most.
    pub ctx: Option<usize>,
    /// Rows of one prefill step; fewer where the adapter cannot bind so large an intermediate.
    pub batch: usize,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            dtype: None,
            kv: None,
            ctx: None,
            batch: 512,
        }
    }
}

/// A model on the GPU: weights, kernels and text tools. Sessions share it.
#[derive(Debug)]
pub struct Model {
    pub(crate) gpu: Arc<Gpu>,
    pub(crate) config: Config,
    pub(crate) kernels: Kernels,
    pub(crate) weights: Weights,
    pub(crate) rope_table: Tensor,
    name: String,
    generation: GenerationConfig,
    tokenizer: Option<Tokenizer>,
    template: Option<ChatTemplate>,
    stop_ids: Vec<u32>,
    settings: Settings,
    plan: MemoryPlan,
    upload: Upload,
}

/// How fast the weights came to the GPU.
#[derive(Clone, Copy, Debug, Default)]
pub struct Upload {
    /// Bytes of the checkpoint; none for random weights, which are made on the GPU.
    pub bytes: u64,
    /// Until the last byte had arrived and the last kernel was compiled, which goes on beside it.
    pub time: Duration,
}

impl Upload {
    /// 10^9 bytes of the checkpoint a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.bytes as f64 / self.time.as_secs_f64().max(f64::MIN_POSITIVE) / 1e9
    }
}

/// [`LoadOptions`] with every choice made.
#[derive(Clone, Copy, Debug)]
struct Settings {
    dtype: DType,
    kv: Elem,
    ctx: usize,
    batch: usize,
}

impl Settings {
    fn new(gpu: &Gpu, config: &Config, options: &LoadOptions) -> Result<Self> {
        let invalid = |option: &str, value: String, reason: String| Error::Option {
            option: option.into(),
            value,
            reason,
        };
        let ctx = options.ctx.unwrap_or_else(|| config.max_ctx().min(DEFAULT_CTX));
        if ctx == 0 || ctx > config.max_ctx() {
            let reason = format!("the model takes 1 to {} tokens", config.max_ctx());
            return Err(invalid("--ctx", ctx.to_string(), reason));
        }
        if options.batch == 0 || options.batch > 65_535 {
            return Err(invalid(
                "--batch",
                options.batch.to_string(),
                "a prefill step takes 1 to 65535 tokens".into(),
            ));
        }
        let kv = options.kv.unwrap_or(if gpu.caps().f16 { Elem::F16 } else { Elem::F32 });
        if kv == Elem::F16 && !gpu.caps().f16 {
            let reason = format!("{} has no f16; use f32", gpu.info().name);
            return Err(invalid("--kv-dtype", "f16".into(), reason));
        }
        let settings = Self {
            dtype: options.dtype.or(config.dtype).unwrap_or(DType::BF16),
            kv,
            ctx,
            batch: options.batch.min(ctx).min(Activations::max_batch(gpu.caps(), config)),
        };
        if options.dtype.is_none() {
            return Ok(settings.fitting(gpu, config));
        }
        let multiple = settings.dtype.column_multiple();
        if let Some(cols) = columns(config).into_iter().find(|cols| !cols.is_multiple_of(multiple)) {
            let reason = format!("rows have to be a multiple of {multiple} elements long, and the model has some of {cols}");
            return Err(invalid("--dtype", settings.dtype.to_string(), reason));
        }
        Ok(settings)
    }

    fn plan(&self, config: &Config) -> MemoryPlan {
        MemoryPlan::new(config, self.dtype, self.kv, self.ctx, self.batch)
    }

    /// The same, with narrower weights where these are known not to fit and the narrower ones do.
    fn fitting(self, gpu: &Gpu, config: &Config) -> Self {
        let all = [self.dtype, DType::Q8, DType::Q4].map(|dtype| Self { dtype, ..self });
        let possible = |s: &Self| columns(config).iter().all(|cols| cols.is_multiple_of(s.dtype.column_multiple()));
        let fits = |s: &Self| possible(s) && s.plan(config).check(gpu).is_ok();
        all.into_iter().find(fits).unwrap_or(self)
    }
}

/// Row lengths of a model's matrices.
fn columns(config: &Config) -> Vec<usize> {
    let dense = config.has_dense_layers().then_some(config.d_ff);
    let experts = config.moe.as_ref().map(|moe| moe.d_ff_expert);
    [config.d_model, config.q_width()].into_iter().chain(dense).chain(experts).collect()
}

impl Model {
    /// Loads a checkpoint. `progress` hears the bytes done and in all, and cancels by returning `false`.
    ///
    /// # Errors
    /// A malformed checkpoint, a plan that does not fit ([`Error::OutOfMemory`], before anything is uploaded),
    /// [`Error::Cancelled`], or a failing device.
    pub fn load(
        gpu: &Arc<Gpu>,
        checkpoint: &Checkpoint,
        options: &LoadOptions,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<Arc<Self>> {
        let config = checkpoint.config().clone();
        let settings = Settings::new(gpu, &config, options)?;
        let plan = settings.plan(&config);
        plan.check(gpu)?;
        let (tokenizer, template) = text_tools(checkpoint)?;
        let loader = Loader {
            gpu,
            checkpoint,
            storage: Storage::new(&config, settings.dtype),
            progress,
            done: 0,
        };
        let started = Instant::now();
        let (weights, kernels) = beside(gpu, || loader.load(&config), || kernels(gpu, &config, settings))?;
        let upload = Upload {
            bytes: checkpoint.total_bytes(),
            time: started.elapsed(),
        };
        let generation = checkpoint.generation().clone();
        let mut stop_ids = [generation.eos_token_ids.as_slice(), &config.eos_token_ids].concat();
        stop_ids.sort_unstable();
        stop_ids.dedup();
        let name = checkpoint.name().to_owned();
        Self::assemble(gpu, config, settings, plan, (weights, kernels), |model| Self {
            name,
            tokenizer,
            template,
            generation,
            stop_ids,
            upload,
            ..model
        })
    }

    /// A model of the given shape with random weights from `seed`, for benchmarks. It has no tokenizer.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn random(gpu: &Arc<Gpu>, config: Config, options: &LoadOptions, seed: u32) -> Result<Arc<Self>> {
        let settings = Settings::new(gpu, &config, options)?;
        let plan = settings.plan(&config);
        plan.check(gpu)?;
        let weights = weights::random(gpu, &config, Storage::new(&config, settings.dtype), seed)?;
        let kernels = kernels(gpu, &config, settings)?;
        Self::assemble(gpu, config, settings, plan, (weights, kernels), |model| model)
    }

    fn assemble(
        gpu: &Arc<Gpu>,
        config: Config,
        settings: Settings,
        plan: MemoryPlan,
        (weights, kernels): (Weights, Kernels),
        finish: impl FnOnce(Self) -> Self,
    ) -> Result<Arc<Self>> {
        let table = RopeTable::new(&config, settings.ctx);
        let rope_table = Tensor::from_f32(gpu, "rope table", table.shape()[0], config.head_dim, table.data())?;
        Ok(Arc::new(finish(Self {
            gpu: gpu.clone(),
            config,
            kernels,
            weights,
            rope_table,
            name: "random".into(),
            upload: Upload::default(),
            generation: GenerationConfig::default(),
            tokenizer: None,
            template: None,
            stop_ids: Vec::new(),
            settings,
            plan,
        })))
    }

    /// The validated configuration.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The device that holds the weights.
    #[must_use]
    pub const fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    /// The checkpoint's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tokenizer; random models have none.
    #[must_use]
    pub const fn tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizer.as_ref()
    }

    /// The chat template; base models may have none.
    #[must_use]
    pub const fn template(&self) -> Option<&ChatTemplate> {
        self.template.as_ref()
    }

    /// The checkpoint's sampling defaults.
    #[must_use]
    pub const fn generation(&self) -> &GenerationConfig {
        &self.generation
    }

    /// Ids that end an answer, from generation_config.json and config.json together.
    #[must_use]
    pub fn stop_ids(&self) -> &[u32] {
        &self.stop_ids
    }

    /// What the model takes on the GPU, one session included.
    #[must_use]
    pub const fn plan(&self) -> &MemoryPlan {
        &self.plan
    }

    /// How fast it was loaded.
    #[must_use]
    pub const fn upload(&self) -> &Upload {
        &self.upload
    }

    /// Storage of the layers' weights.
    #[must_use]
    pub const fn dtype(&self) -> DType {
        self.settings.dtype
    }

    /// Storage of the KV cache.
    #[must_use]
    pub const fn kv(&self) -> Elem {
        self.settings.kv
    }

    /// Tokens that a session holds.
    #[must_use]
    pub const fn ctx(&self) -> usize {
        self.settings.ctx
    }

    /// Rows of one prefill step.
    #[must_use]
    pub const fn batch(&self) -> usize {
        self.settings.batch
    }

    /// Ids below this name a token; the rest of the vocabulary is padding, and never sampled.
    #[must_use]
    pub fn n_valid(&self) -> usize {
        let named = self.tokenizer.as_ref().map_or(self.config.vocab_size, Tokenizer::n_tokens);
        named.min(self.config.vocab_size)
    }
}

/// Every kernel that the model may run.
fn kernels(gpu: &Gpu, config: &Config, settings: Settings) -> Result<Kernels> {
    let storage = Storage::new(config, settings.dtype);
    let options = KernelOptions {
        layers: storage.layers,
        embed: storage.embed,
        head: storage.head,
        head_dim: config.head_dim,
        group_size: config.group_size(),
        kv: settings.kv,
        experts: (0..config.n_layers).any(|layer| config.experts(layer).is_some()),
    };
    Ok(Kernels::new(gpu, &options)?)
}

/// Both at the same time, where the backend stands it: on GL threads wait for one context, and wgpu panics when that takes long.
fn beside<A, B: Send>(gpu: &Gpu, here: impl FnOnce() -> Result<A>, there: impl FnOnce() -> Result<B> + Send) -> Result<(A, B)> {
    if gpu.info().backend == "gl" {
        return Ok((here()?, there()?));
    }
    std::thread::scope(|scope| {
        let there = scope.spawn(there);
        let here = here();
        let there = there.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((here?, there?))
    })
}

/// Tokenizer and template of a checkpoint. A folder without tokenizer.json still runs on token ids.
fn text_tools(checkpoint: &Checkpoint) -> Result<(Option<Tokenizer>, Option<ChatTemplate>)> {
    let Some(json) = checkpoint.text("tokenizer.json")? else {
        return Ok((None, None));
    };
    let tokenizer = Tokenizer::from_json(&json)?;
    let tokenizer_config = checkpoint.text("tokenizer_config.json")?;
    let jinja = checkpoint.text("chat_template.jinja")?;
    Ok((
        Some(tokenizer),
        ChatTemplate::from_checkpoint_files(tokenizer_config.as_deref(), jinja.as_deref())?,
    ))
}
