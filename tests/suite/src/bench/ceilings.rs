//! The adapter's ceilings: the best of many samples, on the grid that suits it best.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use qwgpu_runtime::{
    Error, Gpu, Peak, Result,
    kernels::peak::{self, Ceiling},
};

use super::runner::time;

/// Memory to read on a GPU, and on a CPU driver.
const READ_BYTES: u64 = 2 << 30;
const READ_BYTES_CPU: u64 = 64 << 20;
/// Grids to read with; which is best depends on how many workgroups an adapter holds at once.
const READ_GRIDS: [usize; 4] = [1024, 4096, 16_384, 32_768];
/// CPU drivers run few at once, and take long over the end of each.
const READ_GRIDS_CPU: [usize; 4] = [4, 8, 32, 128];
const MAX_GROUPS: usize = 32_768;
/// Samples of each grid.
const SAMPLES: usize = 20;
/// The same where an adapter is slow.
const PATIENCE: Duration = Duration::from_millis(600);
const FEW_SAMPLES: usize = 3;

/// What a ceiling is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CeilingKind {
    /// Reading memory, in bytes per second.
    Read,
    /// f32 multiply-adds, in operations per second.
    F32,
    /// f16 multiply-adds.
    F16,
    /// Packed 8-bit dot products.
    Dot,
    /// Cooperative matrices, f16 into f32.
    Coop,
}

impl CeilingKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Read, Self::F32, Self::F16, Self::Dot, Self::Coop];

    /// The name that reports and JSON use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Dot => "dot4I8Packed",
            Self::Coop => "coop f16 to f32",
        }
    }

    /// What a millionth of a millionth of its value is called, a thousandth of it for [`CeilingKind::Read`].
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Read => "GB/s",
            Self::Dot => "TOP/s",
            Self::F32 | Self::F16 | Self::Coop => "TFLOP/s",
        }
    }

    /// A value in its unit.
    #[must_use]
    pub const fn in_unit(self, value: f64) -> f64 {
        match self {
            Self::Read => value / 1e9,
            _ => value / 1e12,
        }
    }

    fn peak(self, gpu: &Gpu) -> std::result::Result<Peak, &'static str> {
        let caps = gpu.caps();
        match self {
            Self::Read => Ok(Peak::Read),
            Self::F32 => Ok(Peak::F32),
            Self::F16 if caps.f16 => Ok(Peak::F16),
            Self::F16 => Err("the adapter has no f16"),
            Self::Dot if caps.dot => Ok(Peak::Dot),
            Self::Dot => Err("packed dot products are disabled"),
            Self::Coop => peak::coop(caps).ok_or("the adapter has no cooperative matrices of 16 x 16 x 16 from f16 into f32"),
        }
    }
}

/// One ceiling, or why there is none.
#[derive(Clone, Debug)]
pub struct Measured {
    /// What it is of.
    pub kind: CeilingKind,
    /// Bytes or operations per second.
    pub value: std::result::Result<f64, String>,
}

/// Measures every ceiling that the adapter has.
///
/// # Errors
/// When the device has failed.
pub fn ceilings(gpu: &Arc<Gpu>) -> Result<Vec<Measured>> {
    let measure = |kind: CeilingKind| {
        let value = match kind.peak(gpu) {
            Ok(peak) => one(gpu, peak)?,
            Err(reason) => Err(reason.to_owned()),
        };
        Ok(Measured { kind, value })
    };
    CeilingKind::ALL.into_iter().map(measure).collect()
}

fn one(gpu: &Arc<Gpu>, peak: Peak) -> Result<std::result::Result<f64, String>> {
    let first = match open(gpu, peak) {
        Ok(first) => first,
        // a driver that offers what it cannot compile should not keep the others from being measured
        Err(Error::Shader { label, .. }) => return Ok(Err(format!("{label} does not compile on this adapter"))),
        Err(error) => return Err(error),
    };
    let grids = if peak == Peak::Read {
        let grids = if gpu.caps().cpu { READ_GRIDS_CPU } else { READ_GRIDS };
        let grids = grids.into_iter().map(|n| first.with_groups(gpu, n));
        grids.collect::<Result<Vec<_>>>()?
    } else {
        vec![grown(gpu, first)?]
    };
    let mut best = 0.0f64;
    for ceiling in &grids {
        let speed = fastest(gpu, ceiling)?;
        if !ceiling.verify(gpu)? {
            return Ok(Err("it computed a wrong result on this adapter".into()));
        }
        best = best.max(speed);
    }
    Ok(Ok(best))
}

/// With as much to read as there is room for.
fn open(gpu: &Arc<Gpu>, peak: Peak) -> Result<Ceiling> {
    let mut bytes = if gpu.caps().cpu { READ_BYTES_CPU } else { READ_BYTES };
    loop {
        match Ceiling::new(gpu, peak, bytes) {
            Err(Error::OutOfMemory { .. }) if bytes > 64 << 20 => bytes /= 2,
            other => return other,
        }
    }
}

/// Enough workgroups that neither the start nor the end of a dispatch counts, yet no more than a watchdog allows.
fn grown(gpu: &Arc<Gpu>, first: Ceiling) -> Result<Ceiling> {
    let (mut ceiling, enough) = if gpu.caps().cpu {
        (first.with_groups(gpu, 8)?, 2e6)
    } else {
        (first, 5e6)
    };
    loop {
        time(gpu, |pass| ceiling.dispatch(pass))?; // what happens on first use alone
        let ns = time(gpu, |pass| ceiling.dispatch(pass))?;
        if ns >= enough || ceiling.n_groups() >= MAX_GROUPS.min(gpu.caps().max_workgroups as usize) {
            return Ok(ceiling);
        }
        ceiling = ceiling.with_groups(gpu, 2 * ceiling.n_groups())?;
    }
}

/// The best speed of several samples of a few milliseconds each, after enough work for the clocks.
fn fastest(gpu: &Arc<Gpu>, ceiling: &Ceiling) -> Result<f64> {
    let (warm_up, enough) = if gpu.caps().cpu {
        (Duration::ZERO, 2e6)
    } else {
        (Duration::from_millis(500), 1e7)
    };
    let once = time(gpu, |pass| ceiling.dispatch(pass))?.max(1.0);
    let n = (enough / once).ceil().clamp(1.0, 64.0) as usize;
    let sample = || time(gpu, |pass| (0..n).for_each(|_| ceiling.dispatch(pass)));
    let started = Instant::now();
    while started.elapsed() < warm_up {
        sample()?;
    }
    let started = Instant::now();
    let mut least = f64::INFINITY;
    for i in 0..SAMPLES {
        if i >= FEW_SAMPLES && started.elapsed() > PATIENCE {
            break;
        }
        least = least.min(sample()?);
    }
    Ok((n as u64 * ceiling.work()) as f64 / least.max(1.0) * 1e9)
}
