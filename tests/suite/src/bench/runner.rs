//! Timing: many dispatches back to back in one pass, on a GPU that has been kept busy, with caches that hold none of the data.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use qwgpu_runtime::{Gpu, Pass, Peak, Result, kernels::peak::Ceiling};

use super::{BenchCase, Record};

/// Dispatches of one pass at most: recording more would leave the GPU idle for too long.
const MAX_DISPATCHES: usize = 4096;
/// An idle GPU clocks down, and takes about a second of work to come back.
const WARM_UP: Duration = Duration::from_secs(1);
/// Work before the samples where the GPU has only just been busy.
const SHORT_WARM_UP: Duration = Duration::from_millis(250);
/// How long the GPU may have been idle for that.
const SHORT_BREAK: Duration = Duration::from_millis(500);
/// Sampling ends after this long once there are [`FEW_SAMPLES`].
const PATIENCE: Duration = Duration::from_millis(800);
const FEW_SAMPLES: usize = 5;

/// Measures cases on one adapter, one after the other.
#[derive(Debug)]
pub struct Bencher {
    gpu: Arc<Gpu>,
    cold_bytes: u64,
    /// Reads as much as the caches hold, for cases whose copies are too few for that.
    sweep: Option<Ceiling>,
    busy: Option<Instant>,
}

/// A case with its data on the adapter.
pub struct Loaded<'b> {
    bencher: &'b mut Bencher,
    record: Record,
    copies: usize,
    sweeps: bool,
    /// Whether the GPU had been idle for long when the data was there.
    rested: bool,
    next: usize,
    n_dispatches: usize,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Samples {
    /// Nanoseconds of one dispatch, each the mean of a pass.
    pub ns: Vec<f64>,
    /// Dispatches of a pass.
    pub n_dispatches: usize,
    /// Sets of data that the dispatches went round.
    pub copies: usize,
}

impl std::fmt::Debug for Loaded<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").field("copies", &self.copies).finish_non_exhaustive()
    }
}

impl Bencher {
    /// What the copies of a case take together on a GPU: twice the largest cache that GPUs have.
    pub const COLD_BYTES: u64 = 512 << 20;
    /// The same on CPU drivers.
    pub const COLD_BYTES_CPU: u64 = 64 << 20;

    /// Prepares to measure; `warm` keeps to one copy of the data, which caches may then hold.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn new(gpu: &Arc<Gpu>, warm: bool) -> Result<Self> {
        let cold_bytes = if gpu.caps().cpu { Self::COLD_BYTES_CPU } else { Self::COLD_BYTES };
        let sweep = if warm {
            None
        } else {
            Some(Ceiling::new(gpu, Peak::Read, cold_bytes)?.with_groups(gpu, 4096)?)
        };
        Ok(Self {
            gpu: gpu.clone(),
            cold_bytes,
            sweep,
            busy: None,
        })
    }

    /// Puts the case's data on the adapter, and finds out how many dispatches a pass takes.
    ///
    /// # Errors
    /// When there is no memory, or the device has failed.
    pub fn load(&mut self, case: &BenchCase) -> Result<Loaded<'_>> {
        let wanted = if self.sweep.is_some() {
            self.cold_bytes.div_ceil(case.bytes.max(1))
        } else {
            1
        };
        let copies = (wanted as usize).clamp(1, case.max_copies);
        let record = (case.prepare)(&self.gpu, copies)?;
        let mut loaded = Loaded {
            rested: self.busy.is_none_or(|busy| busy.elapsed() > SHORT_BREAK),
            sweeps: copies < wanted as usize,
            bencher: self,
            record,
            copies,
            next: 0,
            n_dispatches: 1,
        };
        loaded.time(1)?; // what happens on first use alone
        let (target, most) = (loaded.target(), loaded.most());
        loop {
            let ns = loaded.time(loaded.n_dispatches)?.max(1.0);
            if ns >= target || loaded.n_dispatches == most {
                return Ok(loaded);
            }
            // in steps, since the first passes are slow ones
            let factor = (target / ns * 1.1).clamp(1.5, 16.0);
            loaded.n_dispatches = ((loaded.n_dispatches as f64 * factor).ceil() as usize).min(most);
        }
    }
}

impl Loaded<'_> {
    /// Nanoseconds that a pass should last at least, far below what a watchdog allows.
    fn target(&self) -> f64 {
        let caps = self.bencher.gpu.caps();
        match (caps.timestamps, caps.cpu) {
            (true, true) => 2e6,
            (true, false) => 5e6,
            (false, _) => 2e7, // submitting takes a tenth of a millisecond, and counts
        }
    }

    fn most(&self) -> usize {
        if self.sweeps { self.copies } else { MAX_DISPATCHES }
    }

    /// Nanoseconds of `n` dispatches in one pass, no more than a pass takes.
    fn time(&mut self, n: usize) -> Result<f64> {
        let gpu = &self.bencher.gpu;
        if let (true, Some(sweep)) = (self.sweeps, &self.bencher.sweep) {
            let mut pass = Pass::new(gpu);
            sweep.dispatch(&mut pass);
            pass.submit();
        }
        let ns = time(gpu, |pass| {
            for i in 0..n {
                (self.record)(pass, (self.next + i) % self.copies);
            }
        })?;
        self.next = (self.next + n) % self.copies;
        self.bencher.busy = Some(Instant::now());
        Ok(ns)
    }

    /// Nanoseconds of `n` dispatches, in as many passes as that takes.
    ///
    /// # Errors
    /// When the device has failed.
    pub fn total(&mut self, n: u64) -> Result<f64> {
        let mut total = 0.0;
        let mut left = n;
        while left > 0 {
            let now = left.min(self.n_dispatches as u64);
            total += self.time(now as usize)?;
            left -= now;
        }
        Ok(total)
    }

    /// Warms up, then takes up to `repetitions` samples.
    ///
    /// # Errors
    /// When the device has failed.
    pub fn sample(&mut self, repetitions: usize) -> Result<Samples> {
        let warm_up = match (self.bencher.gpu.caps().cpu, self.rested) {
            (true, _) => Duration::ZERO,
            (false, true) => WARM_UP,
            (false, false) => SHORT_WARM_UP,
        };
        let n = self.n_dispatches;
        let started = Instant::now();
        while started.elapsed() < warm_up {
            self.time(n)?;
        }
        let mut ns = Vec::with_capacity(repetitions);
        let started = Instant::now();
        while ns.len() < repetitions && (ns.len() < FEW_SAMPLES || started.elapsed() < PATIENCE) {
            ns.push(self.time(n)? / n as f64);
        }
        Ok(Samples {
            ns,
            n_dispatches: n,
            copies: self.copies,
        })
    }
}

/// Nanoseconds of everything that `record` records: by the GPU's own clock, or where it has none, by the wall's.
pub(super) fn time(gpu: &Gpu, record: impl FnOnce(&mut Pass<'_>)) -> Result<f64> {
    if gpu.caps().timestamps {
        let mut pass = Pass::timed_as_a_whole(gpu)?;
        record(&mut pass);
        return Ok(pass.submit_timed()?.iter().map(|timing| timing.ns).sum());
    }
    gpu.wait()?;
    let mut pass = Pass::new(gpu);
    record(&mut pass);
    let started = Instant::now();
    pass.submit();
    gpu.wait()?;
    Ok(started.elapsed().as_nanos() as f64)
}
