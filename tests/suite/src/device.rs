//! The devices that cases run on: one adapter, opened once as it is and once for each set of capabilities taken away.
//!
//! `QWGPU_TEST_ADAPTER` (index or part of the name) chooses the adapter; without it `QWGPU_ADAPTER` and the runtime's default do.

use std::sync::{Arc, OnceLock};

use qwgpu_runtime::{Error, Gpu, GpuOptions, Pass, Result};

/// What is taken away from the adapter, so that portable twins run on a machine that would never choose them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing.
    Full,
    /// Subgroup operations.
    NoSubgroup,
    /// The f16 type.
    NoF16,
    /// Bindings above [`Mode::SMALL_BINDING`], so that small matrices are split into parts.
    SmallBinding,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 4] = [Self::Full, Self::NoSubgroup, Self::NoF16, Self::SmallBinding];

    /// Bytes of the largest binding in [`Mode::SmallBinding`]: a few rows of a test matrix, yet room for its activations.
    pub const SMALL_BINDING: u64 = 64 << 10;

    /// The name that reports show.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::NoSubgroup => "no subgroup",
            Self::NoF16 => "no f16",
            Self::SmallBinding => "small binding",
        }
    }

    /// Why this mode would only repeat [`Mode::Full`] on `gpu`, if it would.
    #[must_use]
    pub fn repeats_full(self, gpu: &Gpu) -> Option<&'static str> {
        match self {
            Self::NoSubgroup if !gpu.caps().subgroup => Some("the adapter has no subgroups to take away"),
            Self::NoF16 if !gpu.caps().f16 => Some("the adapter has no f16 to take away"),
            _ => None,
        }
    }

    fn open(self) -> Result<Arc<Gpu>> {
        let mut options = GpuOptions::from_env()?;
        if let Ok(adapter) = std::env::var("QWGPU_TEST_ADAPTER")
            && !adapter.is_empty()
        {
            options.adapter = Some(adapter);
        }
        match self {
            Self::Full => {}
            Self::NoSubgroup => options.disabled.subgroup = true,
            Self::NoF16 => options.disabled.f16 = true,
            Self::SmallBinding => options.max_binding = Some(Self::SMALL_BINDING),
        }
        Gpu::open(&options)
    }
}

/// The process's device for `mode`, opened on first use.
///
/// # Errors
/// What went wrong when it was opened, in words: it is told to every case that asks.
pub fn gpu(mode: Mode) -> std::result::Result<Arc<Gpu>, String> {
    static DEVICES: [OnceLock<std::result::Result<Arc<Gpu>, String>>; 4] = [const { OnceLock::new() }; 4];
    DEVICES[mode as usize]
        .get_or_init(|| mode.open().map_err(|error| error.to_string()))
        .clone()
}

/// GPU time in nanoseconds of everything that `record` records, for benchmarks; `None` where the adapter has no timestamps.
///
/// # Errors
/// When the device has failed.
pub fn timings(gpu: &Gpu, record: impl FnOnce(&mut Pass<'_>)) -> Result<Option<f64>> {
    let mut pass = match Pass::timed(gpu) {
        Ok(pass) => pass,
        Err(Error::MissingFeature { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    record(&mut pass);
    Ok(Some(pass.submit_timed()?.iter().map(|timing| timing.ns).sum()))
}
