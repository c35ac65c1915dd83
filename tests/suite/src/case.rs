//! Cases as data, and what running one gives.

use std::{fmt, sync::Arc};

use qwgpu_runtime::{
    Caps, Gpu,
    self_test::{self, Probe},
};

use crate::{Axis, Mode};

type Run = Box<dyn Fn(&Arc<Gpu>) -> Result<Outcome, Failure> + Send + Sync>;

/// How much is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// A minute or so: every kernel, every kind of value, the edges of every tile.
    #[default]
    Quick,
    /// Everything, so that every variant that the adapter offers has run.
    Full,
}

/// How large the shapes of real models are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// For CPU drivers: all columns, and rows for two tiles and a bit.
    Cut,
    /// As the models have them.
    Real,
}

impl Scale {
    /// What suits an adapter.
    #[must_use]
    pub fn of(gpu: &Gpu) -> Self {
        Self::suiting(gpu.caps())
    }

    /// The same, before the adapter is opened.
    #[must_use]
    pub const fn suiting(caps: &Caps) -> Self {
        if caps.cpu { Self::Cut } else { Self::Real }
    }
}

/// One kernel with one input.
pub struct Case {
    /// The kernel's stem.
    pub kernel: &'static str,
    /// What is particular about the input; unique for its kernel.
    pub name: String,
    /// What decides the variant, and so the modes in which it says something new.
    pub axes: &'static [Axis],
    /// Whether it cannot run without the f16 type.
    pub needs_f16: bool,
    /// Whether the adapter has what it needs, if it runs on matrix units.
    coop: Option<fn(&Caps) -> bool>,
    /// The probe of the self-test that it is, if it is one.
    pub probe: Option<Probe>,
    /// The smallest tier that it belongs to.
    pub tier: Tier,
    run: Run,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kernel, self.name)
    }
}

impl Case {
    /// A case of the full tier that runs in [`Mode::Native`] alone.
    pub fn new(
        kernel: &'static str,
        name: impl Into<String>,
        run: impl Fn(&Arc<Gpu>) -> Result<Outcome, Failure> + Send + Sync + 'static,
    ) -> Self {
        Self {
            kernel,
            name: name.into(),
            axes: &[],
            needs_f16: false,
            coop: None,
            probe: None,
            tier: Tier::Full,
            run: Box::new(run),
        }
    }

    /// The same, in every mode that takes one of these away.
    #[must_use]
    pub fn over(self, axes: &'static [Axis]) -> Self {
        Self { axes, ..self }
    }

    /// The same, skipped where there is no f16.
    #[must_use]
    pub fn with_f16(self, needs_f16: bool) -> Self {
        Self { needs_f16, ..self }
    }

    /// The same, on matrix units: skipped where the adapter cannot run the form of the kernel that it needs.
    #[must_use]
    pub fn with_coop(self, runs: fn(&Caps) -> bool) -> Self {
        Self { coop: Some(runs), ..self }
    }

    /// The same, skipped where the adapter lacks what this probe tries.
    #[must_use]
    pub fn with_probe(self, probe: Probe) -> Self {
        Self {
            probe: Some(probe),
            ..self
        }
    }

    /// Why it cannot run on an adapter, if it cannot.
    pub(crate) fn lacks(&self, caps: &Caps) -> Option<&'static str> {
        if self.needs_f16 && !caps.f16 {
            return Some("the adapter has no f16");
        }
        if self.coop.is_some_and(|runs| !runs(caps)) {
            return Some("the adapter has no cooperative matrices, or not the room that this form of the kernel needs");
        }
        match self.probe.filter(|probe| !self_test::offers(caps, *probe))? {
            Probe::F16 => Some("the adapter has no f16"),
            Probe::Subgroup { .. } => Some("the adapter has no subgroup operations"),
            Probe::Dot => Some("packed dot products are disabled"),
            Probe::Coop(_) => Some("the adapter has no cooperative matrices of this shape"),
        }
    }

    /// The same, in the quick tier too if `quick`.
    #[must_use]
    pub fn quick(self, quick: bool) -> Self {
        let tier = if quick { Tier::Quick } else { Tier::Full };
        Self { tier, ..self }
    }

    /// What `--repro` takes: ten hexadecimal digits that stay the same as long as the case does.
    #[must_use]
    pub fn id(&self, mode: Mode) -> String {
        // FNV-1a (Fowler, Noll and Vo), 64 bits
        let text = format!("{} {} {}", self.kernel, mode.name(), self.name);
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        format!("{:010x}", hash >> 24)
    }

    /// Runs it.
    ///
    /// # Errors
    /// When the kernel is wrong, or the device has failed.
    pub fn run(&self, gpu: &Arc<Gpu>) -> Result<Outcome, Failure> {
        match (self.run)(gpu) {
            Ok(outcome) if outcome.n_values == 0 => Err(Failure::new("compared nothing")),
            other => other,
        }
    }
}

/// What a case that passed has compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Values compared.
    pub n_values: usize,
    /// Largest difference, in units of its bound.
    pub worst: f64,
    /// Largest difference.
    pub max_abs: f64,
    /// Sum of the squared differences.
    pub error: f64,
    /// Sum of the squared expected values.
    pub power: f64,
}

impl Outcome {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            n_values: self.n_values + other.n_values,
            worst: self.worst.max(other.worst),
            max_abs: self.max_abs.max(other.max_abs),
            error: self.error + other.error,
            power: self.power + other.power,
        }
    }

    /// Normalised mean square error: the squared differences over the squared expected values.
    #[must_use]
    pub fn nmse(&self) -> f64 {
        if self.error == 0.0 {
            0.0
        } else {
            self.error / self.power.max(f64::from(f32::MIN_POSITIVE))
        }
    }
}

/// One value that is off.
#[derive(Clone, Debug)]
pub struct Mismatch {
    /// Where, as `[row, column]` or in words.
    pub at: String,
    /// What the adapter computed.
    pub got: String,
    /// What the reference says, with its bound.
    pub expected: String,
}

/// Why a case failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    /// In one sentence.
    pub reason: String,
    /// The first values that are off, [`Failure::MAX_MISMATCHES`] at most.
    pub mismatches: Vec<Mismatch>,
    /// What was compared, where there were numbers to compare.
    pub outcome: Option<Outcome>,
}

impl Failure {
    /// Mismatches that are kept for a full dump.
    pub const MAX_MISMATCHES: usize = 64;

    /// A failure with these words.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            mismatches: Vec::new(),
            outcome: None,
        }
    }
}

impl From<qwgpu_runtime::Error> for Failure {
    fn from(error: qwgpu_runtime::Error) -> Self {
        Self::new(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_in_kernel_mode_and_name() {
        let case = |kernel, name| Case::new(kernel, name, |_| Ok(Outcome::default()));
        let ids = [
            case("a", "x").id(Mode::Native),
            case("a", "x").id(Mode::NoF16),
            case("a", "y").id(Mode::Native),
            case("b", "x").id(Mode::Native),
        ];
        let different: std::collections::HashSet<&String> = ids.iter().collect();
        assert_eq!(different.len(), 4, "{ids:?}");
        assert!(ids.iter().all(|id| id.len() == 10), "{ids:?}");
    }
}
