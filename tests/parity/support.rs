//! What every parity test needs: a device, the repository's files, and a way to say that something was skipped.
//!
//! A device is opened once per set of capabilities and shared by all tests, so that kernels compile once. Tests take turns on
//! it: software adapters use every core for one test already, and an error that a device reports then belongs to one test.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use qwgpu_model::{Error, GenerateOptions, LoadOptions, Model, Session, checkpoint::Checkpoint, sampler::SamplerConfig};
use qwgpu_runtime::{Elem, Gpu, GpuOptions};

/// Which capabilities of the adapter a test lets the kernels use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    /// Everything but f16 and integer dot products: f32 throughout.
    F32,
    /// f32 throughout, and no subgroup operations either: what the weakest adapter runs.
    Portable,
    /// Everything that the adapter has, with the KV cache in f16 where it has that.
    Native,
}

/// A device, and the right to use it until this is dropped.
pub(crate) struct Device {
    pub(crate) gpu: Arc<Gpu>,
    arithmetic: Arithmetic,
    _turn: MutexGuard<'static, ()>,
}

impl Drop for Device {
    /// Generations run a step ahead, and may leave one behind that is not finished. A driver on the CPU that still computes while
    /// the process ends is torn down under its own threads: SwiftShader has crashed so after the last test had passed.
    fn drop(&mut self) {
        if let Err(error) = self.gpu.wait() {
            eprintln!("the device failed after the test: {error}");
        }
    }
}

impl Device {
    /// Opens the adapter that `QWGPU_TEST_ADAPTER` names, or hands out the one opened before.
    pub(crate) fn open(arithmetic: Arithmetic) -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        static OPEN: [OnceLock<Arc<Gpu>>; 3] = [const { OnceLock::new() }; 3];
        // A test that failed while it held the lock leaves nothing half done behind it.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let open = || {
            let mut options = GpuOptions::from_env().expect("QWGPU_* variables");
            options.adapter = variable("QWGPU_TEST_ADAPTER").or(options.adapter);
            options.disabled.f16 |= arithmetic != Arithmetic::Native;
            options.disabled.dot |= arithmetic != Arithmetic::Native;
            options.disabled.subgroup |= arithmetic == Arithmetic::Portable;
            Gpu::open(&options).unwrap_or_else(|error| panic!("parity needs a GPU or a software adapter: {error}"))
        };
        let gpu = OPEN[arithmetic as usize].get_or_init(open).clone();
        Self {
            gpu,
            arithmetic,
            _turn: turn,
        }
    }

    /// The KV cache's type that goes with these capabilities; `None` is the model's own choice.
    pub(crate) fn kv(&self) -> Option<Elem> {
        (self.arithmetic != Arithmetic::Native).then_some(Elem::F32)
    }

    /// Loads a model with prefill steps of `batch` tokens.
    pub(crate) fn load(&self, checkpoint: &Checkpoint, batch: usize) -> Arc<Model> {
        let options = LoadOptions {
            kv: self.kv(),
            batch,
            ..LoadOptions::default()
        };
        self.try_load(checkpoint, &options)
            .unwrap_or_else(|error| panic!("{}: {error}", checkpoint.name()))
    }

    /// Loads a model as `options` say.
    pub(crate) fn try_load(&self, checkpoint: &Checkpoint, options: &LoadOptions) -> Result<Arc<Model>, Error> {
        Model::load(&self.gpu, checkpoint, options, &mut |_, _| true)
    }

    /// Whether the adapter has f16; says that `what` was skipped where it has not.
    pub(crate) fn has_f16(&self, what: &str) -> bool {
        let has = self.gpu.caps().f16;
        if !has {
            skip(&format!("{what} with f16 ({} has none)", self.gpu.info().label()));
        }
        has
    }
}

/// A new session, or the reason why there is none as this test's failure.
pub(crate) fn session(model: &Arc<Model>) -> Session {
    Session::new(model).unwrap_or_else(|error| panic!("{}: {error}", model.name()))
}

/// Greedy, on and on: no token ends it.
pub(crate) fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions {
        sampler: SamplerConfig::greedy(),
        max_tokens,
        stop_ids: Vec::new(),
    }
}

/// All tokens that a session generates after `prompt`.
pub(crate) fn generate(session: &mut Session, prompt: &[u32], options: &GenerateOptions) -> Vec<u32> {
    let tokens = session
        .generate(prompt, options)
        .unwrap_or_else(|error| panic!("prompt of {}: {error}", prompt.len()));
    tokens
        .collect::<Result<_, _>>()
        .unwrap_or_else(|error| panic!("while generating: {error}"))
}

/// Logits of every position, `[n_tokens * vocab_size]`.
pub(crate) fn all_logits(session: &mut Session, ids: &[u32]) -> Vec<f32> {
    let vocab_size = session.model().config().vocab_size;
    let mut logits = Vec::with_capacity(ids.len() * vocab_size);
    let mut each = |first: usize, rows: &[f32]| {
        assert_eq!(first * vocab_size, logits.len(), "row blocks come in order and without gaps");
        logits.extend_from_slice(rows);
    };
    session
        .feed_all_logits(ids, &mut each)
        .unwrap_or_else(|error| panic!("logits of {} positions: {error}", ids.len()));
    assert_eq!(logits.len(), ids.len() * vocab_size, "a row of logits for every position");
    logits
}

/// An environment variable that is set and not empty.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A file or folder in the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// `here` in the repository, or else `there` beside it.
pub(crate) fn find(here: &str, there: &str) -> Option<PathBuf> {
    [repository(here), repository("../shared").join(there)]
        .into_iter()
        .find(|path| path.exists())
}

/// Says that `what` was not tested: on standard output, and in the file that `script/test` collects such lines in.
pub(crate) fn skip(what: &str) {
    let line = format!("skipped: {what}");
    println!("{line}");
    if let Some(path) = variable("QWGPU_SKIP_LOG") {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&path);
        let written = log.and_then(|mut file| writeln!(file, "{line}"));
        written.unwrap_or_else(|error| panic!("QWGPU_SKIP_LOG={path}: {error}"));
    }
}
