//! Cases as data, and the runner that executes them.
//!
//! A run without a single executed case is a failure, and every case that did not run says why: silence never passes for success.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use qwgpu_runtime::Gpu;

use crate::{
    cases,
    device::{Mode, gpu},
};

type Run = Box<dyn Fn(&Arc<Gpu>) -> Result<Outcome, Failure> + Send + Sync>;

/// One kernel with one input.
pub struct Case {
    /// The kernel's stem.
    pub kernel: &'static str,
    /// What is particular about the input.
    pub name: String,
    /// Under which capabilities it says something new.
    pub modes: &'static [Mode],
    /// Whether it cannot run without the f16 type.
    pub needs_f16: bool,
    /// Whether a driver that compiles for seconds is spared it; see [`Case::slow`].
    pub slow: bool,
    run: Run,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kernel, self.name)
    }
}

impl Case {
    /// A case that runs in [`Mode::Full`] alone.
    pub fn new(
        kernel: &'static str,
        name: impl Into<String>,
        run: impl Fn(&Arc<Gpu>) -> Result<Outcome, Failure> + Send + Sync + 'static,
    ) -> Self {
        Self {
            kernel,
            name: name.into(),
            modes: &[Mode::Full],
            needs_f16: false,
            slow: false,
            run: Box::new(run),
        }
    }

    /// The same in these modes.
    #[must_use]
    pub fn in_modes(self, modes: &'static [Mode]) -> Self {
        Self { modes, ..self }
    }

    /// The same, skipped where there is no f16.
    #[must_use]
    pub fn with_f16(self, needs_f16: bool) -> Self {
        Self { needs_f16, ..self }
    }

    /// The same, for the slow tier alone on drivers that compile for seconds.
    #[must_use]
    pub fn slow(self, slow: bool) -> Self {
        Self { slow, ..self }
    }
}

/// llvmpipe takes 2 to 5 s to compile one attention kernel, so it runs a few of each only, unless `QWGPU_SLOW` is 1.
fn spared(gpu: &Gpu) -> bool {
    gpu.info().name.contains("llvmpipe") && std::env::var("QWGPU_SLOW").as_deref() != Ok("1")
}

/// What a case that passed has compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Values compared.
    pub n_values: usize,
    /// Largest difference, in units of its bound.
    pub worst: f64,
}

impl Outcome {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            n_values: self.n_values + other.n_values,
            worst: self.worst.max(other.worst),
        }
    }
}

/// Why a case failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(String);

impl Failure {
    /// A failure with these words.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl From<qwgpu_runtime::Error> for Failure {
    fn from(error: qwgpu_runtime::Error) -> Self {
        Self(error.to_string())
    }
}

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The adapter that ran.
    pub adapter: String,
    /// Cases that passed, each mode counted.
    pub n_passed: usize,
    /// Values compared.
    pub n_values: usize,
    /// Largest difference in units of its bound, and the case that had it.
    pub worst: (f64, String),
    /// Cases that did not run, and why.
    pub skipped: Vec<(String, &'static str)>,
    /// Cases that failed, and how.
    pub failed: Vec<String>,
}

impl Report {
    /// Whether at least one case ran and none failed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.n_passed > 0 && self.failed.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (passed, failed, skipped) = (self.n_passed, self.failed.len(), self.skipped.len());
        write!(
            f,
            "{}: {passed} passed, {failed} failed, {skipped} skipped; {} values",
            self.adapter, self.n_values
        )?;
        write!(f, ", worst at {:.2} of its bound ({})", self.worst.0, self.worst.1)
    }
}

/// Runs every case of one kernel.
#[must_use]
pub fn run(kernel: &str) -> Report {
    run_all(cases::all().into_iter().filter(|case| case.kernel == kernel))
}

/// Runs these cases.
pub fn run_all(cases: impl IntoIterator<Item = Case>) -> Report {
    let mut report = Report::default();
    match gpu(Mode::Full) {
        Ok(gpu) => report.adapter = gpu.info().label(),
        Err(error) => {
            report.failed.push(error);
            return report;
        }
    }
    for case in cases {
        for &mode in case.modes {
            run_one(&case, mode, &mut report);
        }
    }
    report
}

fn run_one(case: &Case, mode: Mode, report: &mut Report) {
    let name = format!("{} {} ({})", case.kernel, case.name, mode.name());
    let result = gpu(Mode::Full).and_then(|full| Ok((full, gpu(mode)?)));
    let (full, gpu) = match result {
        Ok(gpus) => gpus,
        Err(error) => return report.failed.push(format!("{name}: {error}")),
    };
    let spared = (case.slow && spared(&gpu)).then_some("slow to compile here, QWGPU_SLOW=1 runs it");
    let no_f16 = (case.needs_f16 && !gpu.caps().f16).then_some("needs f16");
    if let Some(reason) = spared.or(no_f16).or_else(|| mode.repeats_full(&full)) {
        return report.skipped.push((name, reason));
    }
    // wgpu's GL backend takes a second thread for a deadlock after a second of waiting; and no pipeline is compiled twice this way
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    match (case.run)(&gpu) {
        Ok(outcome) if outcome.n_values == 0 => report.failed.push(format!("{name}: compared nothing")),
        Ok(outcome) => {
            report.n_passed += 1;
            report.n_values += outcome.n_values;
            if outcome.worst >= report.worst.0 {
                report.worst = (outcome.worst, name);
            }
        }
        Err(failure) => report.failed.push(format!("{name}: {failure}")),
    }
}
