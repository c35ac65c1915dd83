//! The self-test at start-up: each optional path of an adapter computes a small known case before kernels may use it.
//!
//! Drivers do announce what they then compute wrong. A path that fails its probe is turned off in [`Caps`], so that the portable
//! twin runs, and [`Gpu::distrusted`] says why. Verdicts are kept for each driver version in the user's cache folder (`cache.rs`),
//! so that the price is paid once. [`probe`] runs one probe by itself, for the test suite.

mod cache;
mod coop;
mod dot;
mod f16;
mod subgroup;

use std::fmt;

pub use qwgpu_shaders::{CoopTile, Probe};

use cache::Cache;
use qwgpu_shaders::Variant;

use crate::{AdapterInfo, Caps, Error, Gpu, GpuOptions, Result, pipeline::Access};

/// What every probe takes: how much there is to compute.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    n: u32,
}

impl Params {
    /// Name and type of each field; the contract test compares them with the WGSL.
    #[cfg(test)]
    pub(crate) const FIELDS: &'static [(&'static str, &'static str)] = &[("n", "u32")];
}

/// What each binding of a probe is used for.
pub(crate) const fn bindings(probe: &Probe) -> &'static [Access] {
    match probe {
        Probe::F16 => f16::BINDINGS,
        Probe::Subgroup { .. } => subgroup::BINDINGS,
        Probe::Dot => dot::BINDINGS,
        Probe::Coop(_) => coop::BINDINGS,
    }
}

/// An optional fast path, each with a portable twin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Path {
    /// The f16 type.
    F16,
    /// Subgroup operations.
    Subgroup,
    /// Packed 8-bit dot products.
    Dot,
    /// Cooperative matrices.
    Coop,
}

impl Path {
    /// Every path. f16 comes before what builds on it.
    pub const ALL: [Self; 4] = [Self::F16, Self::Subgroup, Self::Dot, Self::Coop];

    /// Its name, as `QWGPU_DISABLE` has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Subgroup => "subgroup",
            Self::Dot => "dot",
            Self::Coop => "coop",
        }
    }

    /// Takes it away.
    fn turn_off(self, caps: &mut Caps) {
        match self {
            Self::F16 => caps.f16 = false,
            Self::Subgroup => caps.subgroup = false,
            Self::Dot => caps.dot = false,
            Self::Coop => caps.coop.clear(),
        }
    }

    /// The probes that an adapter has to pass for it; none where it has not got the path.
    ///
    /// Of the cooperative matrices it is the tile that kernels would use.
    fn probes(self, caps: &Caps) -> Vec<Probe> {
        let mut probes = Probe::ALL.to_vec();
        probes.retain(|probe| Self::of(*probe) == self && offers(caps, *probe));
        if self == Self::Coop {
            probes.truncate(1);
        }
        probes
    }

    const fn of(probe: Probe) -> Self {
        match probe {
            Probe::F16 => Self::F16,
            Probe::Subgroup { .. } => Self::Subgroup,
            Probe::Dot => Self::Dot,
            Probe::Coop(_) => Self::Coop,
        }
    }
}

/// Whether an adapter with these capabilities can run a probe.
#[must_use]
pub fn offers(caps: &Caps, probe: Probe) -> bool {
    match probe {
        Probe::F16 => caps.f16,
        Probe::Subgroup { .. } => caps.subgroup,
        Probe::Dot => caps.dot,
        Probe::Coop(tile) => {
            let (size, operands) = (tile.size(), if tile.is_f16() { "f16" } else { "f32" });
            let listed = caps
                .coop
                .iter()
                .any(|shape| [shape.m, shape.n, shape.k] == [size; 3] && shape.operands == operands && shape.accumulator == "f32");
            listed && (caps.f16 || !tile.is_f16())
        }
    }
}

/// How a probe ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every value is right.
    Right {
        /// Values compared.
        n_values: usize,
    },
    /// At least one is not.
    Wrong {
        /// The first of them, in words.
        what: String,
    },
}

impl Verdict {
    /// Compares one output with what it must be, value by value; `same` decides.
    fn of<T: fmt::Display>(output: &str, got: &[T], expected: &[T], same: impl Fn(&T, &T) -> bool) -> Self {
        assert_eq!(got.len(), expected.len(), "{output}: the probe and its reference differ in length");
        let wrong = got.iter().zip(expected).position(|(got, expected)| !same(got, expected));
        wrong.map_or(Self::Right { n_values: got.len() }, |i| Self::Wrong {
            what: format!("element {i} of {output} is {} instead of {}", got[i], expected[i]),
        })
    }

    /// Both together: the first that is wrong.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Right { n_values: a }, Self::Right { n_values: b }) => Self::Right { n_values: a + b },
            (wrong @ Self::Wrong { .. }, _) | (_, wrong) => wrong,
        }
    }
}

/// Runs one probe, whatever is known of its path.
///
/// # Errors
/// When it does not compile, or the device fails.
pub fn probe(gpu: &Gpu, probe: Probe) -> Result<Verdict> {
    let pipeline = gpu.pipeline(Variant::Probe(probe))?;
    match probe {
        Probe::F16 => f16::run(gpu, &pipeline),
        Probe::Subgroup { workgroup } => subgroup::run(gpu, &pipeline, workgroup as usize),
        Probe::Dot => dot::run(gpu, &pipeline),
        Probe::Coop(tile) => coop::run(gpu, &pipeline, tile),
    }
}

/// A path that is off because its probe failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distrust {
    /// The path.
    pub path: Path,
    /// What was wrong, in words.
    pub why: String,
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is off: {}", self.path.name(), self.why)
    }
}

impl Gpu {
    /// The paths that the self-test has turned off: the adapter offers them, and is not to be trusted with them.
    #[must_use]
    pub fn distrusted(&self) -> &[Distrust] {
        &self.distrusted
    }
}

/// What the last self-test of this adapter and driver found wrong, without opening it: nothing where there was none.
///
/// # Errors
/// When a file of the folder that `QWGPU_SHADERS` names cannot be read.
pub fn remembered(info: &AdapterInfo, options: &GpuOptions) -> Result<Vec<Distrust>> {
    if !options.self_test {
        return Ok(Vec::new());
    }
    let cache = Cache::open(info, options)?;
    let mut caps = info.caps.clone();
    let mut distrusted = Vec::new();
    for path in Path::ALL {
        if let Some(Some(why)) = cache.get(&path.probes(&caps)) {
            path.turn_off(&mut caps);
            distrusted.push(Distrust { path, why });
        }
    }
    Ok(distrusted)
}

/// Turns off what `gpu` gets wrong. `reopen` makes a new device from capabilities, for where a probe has cost the old one.
pub(crate) fn settle(mut gpu: Gpu, options: &GpuOptions, reopen: impl Fn(AdapterInfo) -> Result<Gpu>) -> Result<Gpu> {
    let mut cache = Cache::open(gpu.info(), options)?;
    for path in Path::ALL {
        let probes = path.probes(gpu.caps());
        if probes.is_empty() {
            continue;
        }
        let mut lost = false;
        let fault = match cache.get(&probes) {
            Some(fault) => fault,
            None => match judge(&gpu, &probes)? {
                Judgement::Verdict(fault) => {
                    cache.put(&probes, fault.clone());
                    fault
                }
                // not kept: a device may go for reasons that are not the driver's, and it is worth another try
                Judgement::Lost(why) => {
                    lost = true;
                    Some(why)
                }
            },
        };
        let Some(why) = fault else { continue };
        path.turn_off(&mut gpu.info.caps);
        gpu.distrusted.push(Distrust { path, why });
        if lost {
            let distrusted = std::mem::take(&mut gpu.distrusted);
            let info = gpu.info.clone();
            drop(gpu);
            gpu = reopen(info)?;
            gpu.distrusted = distrusted;
        }
    }
    gpu.forget_pipelines();
    cache.save();
    Ok(gpu)
}

enum Judgement {
    /// `None` where the path is right, else what is wrong.
    Verdict(Option<String>),
    /// The device is gone.
    Lost(String),
}

/// Runs the probes of one path until one fails.
fn judge(gpu: &Gpu, probes: &[Probe]) -> Result<Judgement> {
    for &form in probes {
        let stem = form.stem();
        match probe(gpu, form) {
            Ok(Verdict::Right { .. }) => {}
            Ok(Verdict::Wrong { what }) => {
                let why = format!("this driver computes it wrong ({stem}: {what})");
                return Ok(Judgement::Verdict(Some(why)));
            }
            Err(Error::Shader { reason, .. }) => {
                let why = format!("this driver does not compile it ({stem}: {})", one_line(&reason));
                return Ok(Judgement::Verdict(Some(why)));
            }
            Err(error @ Error::ShaderFile { .. }) => return Err(error),
            Err(error) => {
                let why = format!("this driver fails at it ({stem}: {})", one_line(&error.to_string()));
                return Ok(Judgement::Lost(why));
            }
        }
    }
    Ok(Judgement::Verdict(None))
}

/// A driver's message cut to what fits a warning.
fn one_line(text: &str) -> String {
    const LENGTH: usize = 200;
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(LENGTH).collect()
}
