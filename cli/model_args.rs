//! The options that every command with a model shares, and the way from them to a loaded model.
//!
//! Here the user learns what runs: which adapter, and that it is a CPU driver where no GPU was found. All of it goes to
//! standard error.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use qwgpu_model::checkpoint::Checkpoint;
use qwgpu_model::{Error, LoadOptions, Model, demo};
use qwgpu_runtime::{DType, Elem, Gpu, GpuOptions};

use crate::hub::{self, ModelSource};
use crate::interrupt::{self, Guard};
use crate::output::{Interrupted, human_bytes};

/// Which model, on what, and how it is stored.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelArgs {
    /// A folder, a Hugging Face repository id (owner/name or owner/name@revision), or `demo`
    #[arg(id = "name", short = 'm', long = "model", value_name = "MODEL", default_value = "demo", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) name: String,
    /// The adapter to run on: its index in `qwgpu devices`, or part of its name [default: the best GPU]
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) adapter: Option<String>,
    /// Tokens that fit, prompt and answer together [default: the model's limit, at most 4096]
    #[arg(long, value_name = "TOKENS")]
    pub(crate) ctx: Option<usize>,
    /// How weights are stored on the GPU; auto keeps the checkpoint's type, or takes q8 or q4 where that is known not to fit; q4
    /// leaves the matrix that makes the logits in q8
    #[arg(long, value_enum, default_value_t = DTypeArg::Auto)]
    pub(crate) dtype: DTypeArg,
    /// How the KV cache is stored; auto is f16 where the adapter has it
    #[arg(long, value_enum, default_value_t = KvDTypeArg::Auto)]
    pub(crate) kv_dtype: KvDTypeArg,
    /// Tokens of a prompt that are read in one step
    #[arg(short = 'b', long, value_name = "TOKENS", default_value_t = 512)]
    pub(crate) batch: usize,
}

/// `--dtype`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DTypeArg {
    Auto,
    F32,
    F16,
    Bf16,
    Q8,
    Q4,
}

/// `--kv-dtype`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KvDTypeArg {
    Auto,
    F32,
    F16,
}

/// A model on a GPU, and how long it took to get there.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The model.
    pub(crate) model: Arc<Model>,
    /// From the first byte read to the last kernel compiled.
    pub(crate) load: Duration,
}

impl ModelArgs {
    /// Finds the checkpoint, downloading it where need be.
    ///
    /// # Errors
    /// Whatever is wrong with the name, the hub or the files.
    pub(crate) fn checkpoint(&self) -> Result<Checkpoint> {
        checkpoint(&self.name)
    }

    /// Opens the adapter and says which one it is.
    ///
    /// # Errors
    /// When there is none, or none of that name.
    pub(crate) fn gpu(&self) -> Result<Arc<Gpu>> {
        open_gpu(self.adapter.as_deref())
    }

    /// What to ask the library for. `ctx` is for commands that know how much they need, where the user says nothing.
    pub(crate) fn options(&self, ctx: Option<usize>) -> LoadOptions {
        LoadOptions {
            dtype: match self.dtype {
                DTypeArg::Auto => None,
                DTypeArg::F32 => Some(DType::F32),
                DTypeArg::F16 => Some(DType::F16),
                DTypeArg::Bf16 => Some(DType::BF16),
                DTypeArg::Q8 => Some(DType::Q8),
                DTypeArg::Q4 => Some(DType::Q4),
            },
            kv: match self.kv_dtype {
                KvDTypeArg::Auto => None,
                KvDTypeArg::F32 => Some(Elem::F32),
                KvDTypeArg::F16 => Some(Elem::F16),
            },
            ctx: self.ctx.or(ctx),
            batch: self.batch,
        }
    }

    /// Loads the checkpoint on the adapter of the options, under a progress bar where standard error is a terminal.
    ///
    /// # Errors
    /// Whatever keeps the model from running; [`Interrupted`] after Ctrl-C.
    pub(crate) fn load(&self, checkpoint: &Checkpoint, ctx: Option<usize>) -> Result<Loaded> {
        // Before the adapter is named: whoever reads its name and presses Ctrl-C hears what was stopped.
        let guard = Guard::new();
        let gpu = self.gpu()?;
        let started = Instant::now();
        let bar = loading_bar();
        let loaded = Model::load(&gpu, checkpoint, &self.options(ctx), &mut |done, total| {
            bar.set_length(total);
            bar.set_position(done);
            !interrupt::asked()
        });
        drop(guard);
        bar.finish_and_clear();
        // The kernels are compiled after the last report of progress; that late, the model is there and still unwanted.
        let model = match loaded {
            Err(error) if !matches!(error, Error::Cancelled) => return Err(error.into()),
            Ok(model) if !interrupt::asked() => model,
            _ => return Err(Interrupted("while the model was being loaded").into()),
        };
        gpu.wait()?;
        let load = started.elapsed();
        if self.dtype == DTypeArg::Auto && model.dtype().is_quantised() {
            eprintln!("weights are stored as {}, as wider ones would not fit", model.dtype());
        }
        if std::io::stderr().is_terminal() {
            let (bytes, seconds) = (checkpoint.total_bytes(), load.as_secs_f64());
            let rate = bytes as f64 / seconds / 1e9;
            eprintln!("loaded {} ({}) in {seconds:.2} s, {rate:.2} GB/s", model.name(), human_bytes(bytes));
        }
        Ok(Loaded { model, load })
    }
}

/// Opens the adapter of `--adapter`, else of the environment, else the best, and says which one it is.
///
/// # Errors
/// When there is none, or none of that name.
pub(crate) fn open_gpu(adapter: Option<&str>) -> Result<Arc<Gpu>> {
    let mut options = GpuOptions::from_env()?;
    if let Some(adapter) = adapter {
        options.adapter = Some(adapter.to_owned());
    }
    let gpu = Gpu::open(&options)?;
    let info = gpu.info();
    if info.kind == "cpu" && options.adapter.is_none() {
        eprintln!("no GPU was found: running on the CPU through {}, which is slow", info.label());
    } else {
        eprintln!("running on {}", info.label());
    }
    for distrust in gpu.distrusted() {
        eprintln!("warning: {distrust}; qwgpu test tells more");
    }
    Ok(gpu)
}

/// The checkpoint that `name` stands for.
///
/// # Errors
/// Whatever is wrong with the name, the hub or the files.
pub(crate) fn checkpoint(name: &str) -> Result<Checkpoint> {
    let checkpoint = match hub::resolve(name, std::io::stderr().is_terminal())? {
        ModelSource::Demo => return Ok(demo::checkpoint()?),
        ModelSource::Folder(folder) => Checkpoint::open(&folder)?,
    };
    // A folder of the hub's cache is called after a commit; the repository's id says more.
    let is_folder = std::fs::metadata(name).is_ok();
    Ok(if is_folder { checkpoint } else { checkpoint.with_name(name) })
}

/// Shown on a terminal only.
fn loading_bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let rate = |state: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
        let seconds = state.elapsed().as_secs_f64();
        let rate = if seconds > 0.0 { state.pos() as f64 / seconds / 1e9 } else { 0.0 };
        // Writing to a terminal line cannot fail in a way that matters here.
        let _ = write!(out, "{rate:.2} GB/s");
    };
    bar.set_style(style("loading {wide_bar} {bytes} / {total_bytes}  {rate}").with_key("rate", rate));
    bar
}

/// A bar over counted steps, for work that takes long; shown on a terminal only.
pub(crate) fn counting_bar(total: usize, what: &str) -> ProgressBar {
    let bar = ProgressBar::new(total as u64);
    let left = |state: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
        let _ = write!(out, "{:#} left", HumanDuration(state.eta()));
    };
    bar.set_style(style(&format!("{what} {{wide_bar}} {{pos}} / {{len}} {{msg}}  {{left}}")).with_key("left", left));
    bar
}

fn style(template: &str) -> ProgressStyle {
    // The templates stand in this file; a wrong one would only cost the looks.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
