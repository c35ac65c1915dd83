//! What a run came to.

use std::{collections::BTreeMap, fmt, time::Duration};

use qwgpu_runtime::AdapterInfo;

use crate::{Failure, Mode, Outcome, Tier};

/// How one case ended.
#[derive(Clone, Debug)]
pub enum Status {
    /// As the reference has it.
    Passed(Outcome),
    /// Otherwise.
    Failed(Failure),
    /// It did not run, for this reason.
    Skipped(&'static str),
}

/// One case in one mode.
#[derive(Clone, Debug)]
pub struct CaseResult {
    /// What `--repro` takes.
    pub id: String,
    /// The kernel's stem.
    pub kernel: &'static str,
    /// What was taken away.
    pub mode: Mode,
    /// The case.
    pub name: String,
    /// How it ended.
    pub status: Status,
    /// Time it took on the host, reference included.
    pub time: Duration,
}

/// A run on one adapter.
#[derive(Clone, Debug)]
pub struct Report {
    /// The adapter, with all of its capabilities.
    pub adapter: AdapterInfo,
    /// What was asked for.
    pub tier: Tier,
    /// Whether it was asked for as a whole, so that every variant has to have run.
    pub whole: bool,
    /// In the order in which they ran.
    pub results: Vec<CaseResult>,
    /// Variants that the adapter offers, as their labels.
    pub n_variants: usize,
    /// Those of them that nothing dispatched.
    pub unseen_variants: Vec<String>,
    /// Time of all of it.
    pub time: Duration,
}

/// How many ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// As the reference has it.
    pub passed: usize,
    /// Otherwise.
    pub failed: usize,
    /// Not run.
    pub skipped: usize,
}

impl Counts {
    fn add(&mut self, status: &Status) {
        match status {
            Status::Passed(_) => self.passed += 1,
            Status::Failed(_) => self.failed += 1,
            Status::Skipped(_) => self.skipped += 1,
        }
    }
}

impl Report {
    /// How many cases ended how; an offered variant that a whole full tier has not run is a failure of its own.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.results.iter().for_each(|result| counts.add(&result.status));
        counts.failed += self.missing_variants().len();
        counts
    }

    /// Counts of each kernel and mode.
    #[must_use]
    pub fn matrix(&self) -> BTreeMap<(&'static str, Mode), Counts> {
        let mut matrix: BTreeMap<_, Counts> = BTreeMap::new();
        for result in &self.results {
            matrix.entry((result.kernel, result.mode)).or_default().add(&result.status);
        }
        matrix
    }

    /// Offered variants whose absence is a failure: those that a whole full tier has not dispatched.
    #[must_use]
    pub fn missing_variants(&self) -> &[String] {
        if self.whole && self.tier == Tier::Full {
            &self.unseen_variants
        } else {
            &[]
        }
    }

    /// Whether at least one case ran and nothing failed.
    #[must_use]
    pub fn passed(&self) -> bool {
        let counts = self.counts();
        counts.passed > 0 && counts.failed == 0
    }

    /// Results that failed, with why.
    pub fn failures(&self) -> impl Iterator<Item = (&CaseResult, &Failure)> {
        self.results.iter().filter_map(|result| match &result.status {
            Status::Failed(failure) => Some((result, failure)),
            _ => None,
        })
    }

    /// Results that passed, with what they compared.
    pub fn passes(&self) -> impl Iterator<Item = (&CaseResult, &Outcome)> {
        self.results.iter().filter_map(|result| match &result.status {
            Status::Passed(outcome) => Some((result, outcome)),
            _ => None,
        })
    }

    /// Reasons for which cases were skipped, with kernel, reason and number.
    #[must_use]
    pub fn skips(&self) -> BTreeMap<(&'static str, &'static str), usize> {
        let mut skips = BTreeMap::new();
        for result in &self.results {
            if let Status::Skipped(reason) = result.status {
                *skips.entry((result.kernel, reason)).or_default() += 1;
            }
        }
        skips
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { passed, failed, skipped } = self.counts();
        let n_values: usize = self.passes().map(|(_, outcome)| outcome.n_values).sum();
        write!(
            f,
            "{}: {passed} passed, {failed} failed, {skipped} skipped; {n_values} values",
            self.adapter.label()
        )?;
        let worst = self.passes().max_by(|a, b| a.1.worst.total_cmp(&b.1.worst));
        worst.map_or(Ok(()), |(result, outcome)| {
            write!(
                f,
                ", worst at {:.2} of its bound ({} {} {})",
                outcome.worst,
                result.kernel,
                result.mode.name(),
                result.name
            )
        })
    }
}
