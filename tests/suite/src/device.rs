//! The devices that cases run on: one adapter, opened once as it is and once for each set of capabilities taken away.

use std::sync::{Arc, OnceLock};

use qwgpu_runtime::{Gpu, GpuOptions, Result, Variant};

use crate::Mode;

type Opened = std::result::Result<Arc<Gpu>, String>;

/// One adapter in every [`Mode`], each opened on first use.
#[derive(Debug)]
pub struct Devices {
    adapter: Option<String>,
    opened: [OnceLock<Opened>; Mode::ALL.len()],
}

impl Devices {
    /// The adapter with this index or this in its name; `None` takes the one of `QWGPU_ADAPTER`, else the best.
    #[must_use]
    pub const fn new(adapter: Option<String>) -> Self {
        Self {
            adapter,
            opened: [const { OnceLock::new() }; Mode::ALL.len()],
        }
    }

    /// The one that `QWGPU_TEST_ADAPTER` names.
    #[must_use]
    pub fn from_env() -> Self {
        Self::new(std::env::var("QWGPU_TEST_ADAPTER").ok().filter(|name| !name.is_empty()))
    }

    fn open(&self, mode: Mode) -> Result<Arc<Gpu>> {
        let mut options = GpuOptions::from_env()?;
        options.adapter = self.adapter.clone().or(options.adapter);
        // a driver that lies about f16 or subgroups is what the suite is there to find
        options.self_test = false;
        mode.restrict(&mut options);
        Gpu::open(&options)
    }

    /// The device for `mode`.
    ///
    /// # Errors
    /// What went wrong when it was opened, in words: it is told to every case that asks.
    pub fn get(&self, mode: Mode) -> Opened {
        self.opened[mode as usize]
            .get_or_init(|| self.open(mode).map_err(|error| error.to_string()))
            .clone()
    }

    /// The variants that any of its devices has dispatched.
    #[must_use]
    pub fn dispatched(&self) -> Vec<Variant> {
        let gpus = self.opened.iter().filter_map(|opened| opened.get()?.as_ref().ok());
        gpus.flat_map(|gpu| gpu.dispatched()).collect()
    }
}

/// The process's own device for `mode`, of the adapter that `QWGPU_TEST_ADAPTER` names: for tests and benches.
///
/// # Errors
/// As [`Devices::get`].
pub fn gpu(mode: Mode) -> Opened {
    static DEVICES: OnceLock<Devices> = OnceLock::new();
    DEVICES.get_or_init(Devices::from_env).get(mode)
}
