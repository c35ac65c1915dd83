//! A run in numbers and words: what every form of the report is made from, and the JSON one as it is.

use std::collections::BTreeMap;

use qwgpu_runtime::AdapterInfo;
use qwgpu_suite::{Report, Tier};
use serde::Serialize;

use super::case::{CaseEntry, Kind, of_run};
use crate::devices::CapsEntry;
use crate::output::JSON_VERSION;

/// The whole run.
#[derive(Debug, Serialize)]
pub(crate) struct Document {
    pub(crate) version: u32,
    /// The version of this program.
    pub(crate) qwgpu: &'static str,
    /// When it ended, UTC.
    pub(crate) date: String,
    /// Operating system and architecture.
    pub(crate) system: String,
    /// What runs the same again.
    pub(crate) command: String,
    /// Variables that change what runs, as far as they are set.
    pub(crate) environment: BTreeMap<&'static str, String>,
    /// The adapters' names.
    pub(crate) adapter: String,
    /// Their drivers.
    pub(crate) driver: String,
    pub(crate) verdict: Verdict,
    /// Ctrl-C ended it early.
    pub(crate) interrupted: bool,
    /// `--fail-fast` ended it early.
    pub(crate) stopped: bool,
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
    pub(crate) seconds: f64,
    pub(crate) adapters: Vec<AdapterEntry>,
    /// In the order in which they ran.
    pub(crate) cases: Vec<CaseEntry>,
}

/// What it came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Passed,
    Failed,
    Interrupted,
}

/// One adapter and its sums.
#[derive(Debug, Serialize)]
pub(crate) struct AdapterEntry {
    pub(crate) index: usize,
    pub(crate) name: String,
    pub(crate) backend: String,
    pub(crate) kind: String,
    pub(crate) driver: String,
    pub(crate) vendor: u32,
    pub(crate) device: u32,
    pub(crate) caps: CapsEntry,
    pub(crate) tier: &'static str,
    /// Whether the tier ran as a whole, so that every variant has to have run.
    pub(crate) whole: bool,
    pub(crate) planned: usize,
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
    pub(crate) n_values: usize,
    /// Variants of kernels that the adapter offers.
    pub(crate) variants_offered: usize,
    /// Those that no case has dispatched.
    pub(crate) variants_unseen: Vec<String>,
    pub(crate) seconds: f64,
}

/// What ran on one adapter, or why nothing did.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) adapter: AdapterInfo,
    pub(crate) tier: Tier,
    pub(crate) planned: usize,
    pub(crate) report: Result<Report, String>,
}

/// How a run came to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum End {
    #[default]
    Complete,
    Interrupted,
    AtFailure,
}

/// Values of a case that a report keeps; a case that is run again by itself keeps all.
const MISMATCHES: usize = 16;

const ENVIRONMENT: [&str; 5] = ["QWGPU_ADAPTER", "QWGPU_DISABLE", "QWGPU_SHADERS", "QWGPU_CHECKED", "WGPU_BACKEND"];

impl Document {
    /// Of these runs, started by `command`.
    pub(crate) fn new(command: String, runs: &[Run], end: End, alone: bool) -> Self {
        let limit = if alone { usize::MAX } else { MISMATCHES };
        let cases: Vec<CaseEntry> = runs.iter().flat_map(|run| of_run(run, limit)).collect();
        let adapters: Vec<AdapterEntry> = runs.iter().map(|run| AdapterEntry::new(run, &cases)).collect();
        let join = |text: fn(&AdapterEntry) -> &str| adapters.iter().map(text).collect::<Vec<_>>().join("; ");
        let sum = |count: fn(&AdapterEntry) -> usize| adapters.iter().map(count).sum();
        let all_ran = !adapters.is_empty() && adapters.iter().all(|adapter| adapter.passed > 0);
        let failed: usize = sum(|adapter| adapter.failed);
        let verdict = match end {
            End::Interrupted => Verdict::Interrupted,
            _ if all_ran && failed == 0 => Verdict::Passed,
            _ => Verdict::Failed,
        };
        let set = |name: &'static str| Some((name, std::env::var(name).ok().filter(|value| !value.is_empty())?));
        Self {
            version: JSON_VERSION,
            qwgpu: env!("CARGO_PKG_VERSION"),
            date: chrono::DateTime::<chrono::Utc>::from(std::time::SystemTime::now()).to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            command,
            environment: ENVIRONMENT.into_iter().filter_map(set).collect(),
            adapter: join(|adapter| &adapter.name),
            driver: join(|adapter| &adapter.driver),
            verdict,
            interrupted: end == End::Interrupted,
            stopped: end == End::AtFailure,
            passed: sum(|adapter| adapter.passed),
            failed,
            skipped: sum(|adapter| adapter.skipped),
            seconds: adapters.iter().map(|adapter| adapter.seconds).sum(),
            adapters,
            cases,
        }
    }

    /// The cases of one adapter.
    pub(crate) fn cases_of<'a>(&'a self, adapter: &AdapterEntry) -> impl Iterator<Item = &'a CaseEntry> + Clone {
        let index = adapter.index;
        self.cases.iter().filter(move |case| case.adapter == index)
    }

    /// Cases that failed.
    pub(crate) fn failures(&self) -> impl Iterator<Item = &CaseEntry> {
        self.cases.iter().filter(|case| case.status == Kind::Failed)
    }

    /// At most `most` failures, `each` of them of one kernel in one mode.
    pub(crate) fn first_failures(&self, each: usize, most: usize) -> Vec<&CaseEntry> {
        let mut seen: BTreeMap<_, usize> = BTreeMap::new();
        let mut first = Vec::new();
        for case in self.failures() {
            let n = seen.entry((case.adapter, &case.kernel, case.mode)).or_default();
            *n += 1;
            if *n <= each && first.len() < most {
                first.push(case);
            }
        }
        first
    }

    /// The command that runs a case again; there is none for what is no case.
    pub(crate) fn repro(&self, case: &CaseEntry) -> Option<String> {
        let id = case.id.as_ref()?;
        // Where it matters which adapter runs, it is named.
        let named = self.adapters.len() > 1 || self.command.contains("--adapter");
        let adapter = if named {
            format!("--adapter {} ", case.adapter)
        } else {
            String::new()
        };
        Some(format!("qwgpu test {adapter}--repro {id}"))
    }
}

impl AdapterEntry {
    fn new(run: &Run, cases: &[CaseEntry]) -> Self {
        let info = &run.adapter;
        let report = run.report.as_ref().ok();
        let own = || cases.iter().filter(|case| case.adapter == info.index);
        let count = |kind| own().filter(|case| case.status == kind).count();
        Self {
            index: info.index,
            name: info.name.clone(),
            backend: info.backend.clone(),
            kind: info.kind.clone(),
            driver: info.driver.clone(),
            vendor: info.vendor,
            device: info.device,
            caps: CapsEntry::new(&info.caps),
            tier: match run.tier {
                Tier::Quick => "quick",
                Tier::Full => "full",
            },
            whole: report.is_some_and(|report| report.whole),
            planned: run.planned,
            passed: count(Kind::Passed),
            failed: count(Kind::Failed),
            skipped: count(Kind::Skipped),
            n_values: own().filter_map(|case| case.n_values).sum(),
            variants_offered: report.map_or(0, |report| report.n_variants),
            variants_unseen: report.map_or_else(Vec::new, |report| report.unseen_variants.clone()),
            seconds: report.map_or(0.0, |report| report.time.as_secs_f64()),
        }
    }

    /// Name and backend.
    pub(crate) fn label(&self) -> String {
        format!("{} ({})", self.name, self.backend)
    }
}
