//! The summary that standard output gets at the end.

use console::style;

use super::case::CaseEntry;
use super::document::{AdapterEntry, Document, Verdict};
use super::sums::{bounds, seconds, skips, worst};
use crate::output::grouped;

/// Failures that are listed.
const LISTED: usize = 20;
/// Of those, how many may be of the same kernel in the same mode: one broken kernel should not hide another.
const EACH: usize = 3;

/// Totals, what was skipped and why, and the first failures with how to see them again.
pub(crate) fn summary(document: &Document) -> String {
    let mut text = String::new();
    for adapter in &document.adapters {
        text += &of_adapter(document, adapter);
    }
    text += &failures(document);
    text += &match document.verdict {
        Verdict::Passed => style("PASSED").green().bold().to_string(),
        Verdict::Failed => style("FAILED").red().bold().to_string(),
        Verdict::Interrupted => style("INTERRUPTED, so this is only part of it").yellow().bold().to_string(),
    };
    text += &format!(": {}\n", totals(document.passed, document.failed, document.skipped));
    if document.stopped {
        text += "Stopped at the first failure, as --fail-fast asks.\n";
    }
    text
}

/// The three counts in words.
pub(crate) fn totals(passed: usize, failed: usize, skipped: usize) -> String {
    let [passed, failed, skipped] = [passed, failed, skipped].map(|n| grouped(n as u64));
    format!("{passed} passed, {failed} failed, {skipped} skipped")
}

fn of_adapter(document: &Document, adapter: &AdapterEntry) -> String {
    let mut text = format!("{}, driver {}\n", style(adapter.label()).bold(), adapter.driver);
    text += &format!(
        "  {} of {} planned, {} tier, {}; {} values compared\n",
        totals(adapter.passed, adapter.failed, adapter.skipped),
        grouped(adapter.planned as u64),
        adapter.tier,
        seconds(adapter.seconds),
        grouped(adapter.n_values as u64)
    );
    if let Some(case) = worst(document.cases_of(adapter)) {
        text += &match case.worst {
            Some(0.0) => "  every value exact\n".into(),
            worst => format!("  worst error at {} of its bound: {}\n", bounds(worst), label(case)),
        };
    }
    let (offered, unseen) = (adapter.variants_offered, adapter.variants_unseen.len());
    if offered > 0 {
        text += &format!("  {} of the {offered} variants that the adapter offers ran\n", offered - unseen);
    }
    for (reason, n, kernels) in skips(document.cases_of(adapter)) {
        text += &format!("  skipped {n}: {reason} ({kernels})\n");
    }
    text + "\n"
}

/// Kernel, mode and name.
pub(crate) fn label(case: &CaseEntry) -> String {
    format!("{} {} {}", case.kernel, case.mode, case.name)
}

fn failures(document: &Document) -> String {
    let mut text = String::new();
    let listed: Vec<&CaseEntry> = document.first_failures(EACH, LISTED);
    for case in &listed {
        text += &format!("{} {}\n", style("FAIL").red().bold(), label(case));
        text += &format!("     {}\n", case.reason.as_deref().unwrap_or_default());
        if let Some(repro) = document.repro(case) {
            text += &format!("     {repro}\n");
        }
    }
    let n_more = document.failures().count() - listed.len();
    if n_more > 0 {
        text += &format!("and {} more; -o report.html has them all\n", grouped(n_more as u64));
    }
    if text.is_empty() { text } else { text + "\n" }
}
