//! Cases as reports have them.

use qwgpu_suite::{CaseResult, Mismatch, Outcome, Status};
use serde::Serialize;

use super::document::Run;

/// One case in one mode; figures are null where nothing was compared, or where they are infinite or NaN.
#[derive(Debug, Serialize)]
pub(crate) struct CaseEntry {
    /// What `--repro` takes; null for what is no case: an adapter that does not open, a variant that never ran.
    pub(crate) id: Option<String>,
    /// The adapter's index.
    pub(crate) adapter: usize,
    pub(crate) kernel: String,
    pub(crate) mode: &'static str,
    pub(crate) name: String,
    pub(crate) status: Kind,
    pub(crate) seconds: f64,
    pub(crate) n_values: Option<usize>,
    /// Largest difference in units of its bound: above 1 is wrong.
    pub(crate) worst: Option<f64>,
    pub(crate) max_abs: Option<f64>,
    pub(crate) nmse: Option<f64>,
    /// Why it failed or was skipped.
    pub(crate) reason: Option<String>,
    pub(crate) mismatches: Vec<MismatchEntry>,
}

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Passed,
    Failed,
    Skipped,
}

/// One value that is off.
#[derive(Debug, Serialize)]
pub(crate) struct MismatchEntry {
    pub(crate) at: String,
    pub(crate) got: String,
    pub(crate) expected: String,
}

/// The cases of a run, and as failures what is wrong besides.
pub(crate) fn of_run(run: &Run, limit: usize) -> Vec<CaseEntry> {
    let adapter = run.adapter.index;
    let report = match &run.report {
        Ok(report) => report,
        Err(reason) => return vec![besides(adapter, "adapter", "opens", reason.clone())],
    };
    let unseen = report.missing_variants().iter().map(|variant| {
        let reason = "the adapter offers this variant, and no case has run it";
        besides(adapter, "variants", variant, reason.into())
    });
    let cases = report.results.iter().map(|result| case(adapter, result, limit));
    cases.chain(unseen).collect()
}

fn case(adapter: usize, result: &CaseResult, limit: usize) -> CaseEntry {
    let (status, outcome, reason, mismatches) = match &result.status {
        Status::Passed(outcome) => (Kind::Passed, Some(outcome), None, &[][..]),
        Status::Failed(failure) => (
            Kind::Failed,
            failure.outcome.as_ref(),
            Some(failure.reason.clone()),
            &failure.mismatches[..],
        ),
        Status::Skipped(reason) => (Kind::Skipped, None, Some((*reason).to_owned()), &[][..]),
    };
    CaseEntry {
        id: Some(result.id.clone()),
        adapter,
        kernel: result.kernel.into(),
        mode: result.mode.name(),
        name: result.name.clone(),
        status,
        seconds: result.time.as_secs_f64(),
        n_values: outcome.map(|outcome| outcome.n_values),
        worst: outcome.map(|outcome| outcome.worst),
        max_abs: outcome.map(|outcome| outcome.max_abs),
        nmse: outcome.map(Outcome::nmse),
        reason,
        mismatches: mismatches.iter().take(limit).map(MismatchEntry::new).collect(),
    }
}

/// A failure that is no case's.
fn besides(adapter: usize, kernel: &str, name: &str, reason: String) -> CaseEntry {
    CaseEntry {
        id: None,
        adapter,
        kernel: kernel.into(),
        mode: "native",
        name: name.into(),
        status: Kind::Failed,
        seconds: 0.0,
        n_values: None,
        worst: None,
        max_abs: None,
        nmse: None,
        reason: Some(reason),
        mismatches: Vec::new(),
    }
}

impl MismatchEntry {
    fn new(mismatch: &Mismatch) -> Self {
        Self {
            at: mismatch.at.clone(),
            got: mismatch.got.clone(),
            expected: mismatch.expected.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_does_not_break_json() {
        let mut case = besides(0, "matmul", "a case", "it is wrong".into());
        case.worst = Some(f64::NAN);
        case.max_abs = Some(f64::INFINITY);
        let json = serde_json::to_value(&case).expect("JSON");
        assert!(json["worst"].is_null() && json["max_abs"].is_null());
        assert_eq!(json["status"], "failed");
    }
}
