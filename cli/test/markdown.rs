//! The report in Markdown, for an issue.

use super::document::{AdapterEntry, Document, Verdict};
use super::sums::{Cell, kernels, modes, seconds, skips};
use super::text::{label, totals};
use crate::output::grouped;
use crate::table::Table;

/// Failures that are listed; more would not be read.
const LISTED: usize = 50;
/// Of one kernel in one mode.
const EACH: usize = 5;

/// The document as Markdown.
pub(crate) fn report(document: &Document) -> String {
    let verdict = match document.verdict {
        Verdict::Passed => "passed",
        Verdict::Failed => "FAILED",
        Verdict::Interrupted => "interrupted",
    };
    let counts = totals(document.passed, document.failed, document.skipped);
    let mut text = format!("# qwgpu test: {verdict}\n\n{counts}; `{}`, ", document.command);
    text += &format!("qwgpu {} on {}, {}\n", document.qwgpu, document.system, document.date);
    for (name, value) in &document.environment {
        text += &format!("\n- `{name}={value}`");
    }
    if !document.environment.is_empty() {
        text += "\n";
    }
    for adapter in &document.adapters {
        text += &of_adapter(document, adapter);
    }
    text + &failures(document)
}

fn of_adapter(document: &Document, adapter: &AdapterEntry) -> String {
    let mut text = format!("\n## {}\n\n", adapter.label());
    text += &format!(
        "Driver {}, {}, vendor {:#06x}, device {:#06x}. {} tier, {}, {} values compared, {} of {} variants run.\n\n",
        adapter.driver,
        adapter.kind,
        adapter.vendor,
        adapter.device,
        adapter.tier,
        seconds(adapter.seconds),
        grouped(adapter.n_values as u64),
        adapter.variants_offered - adapter.variants_unseen.len(),
        adapter.variants_offered,
    );
    let mut table = Table::new(&["kernel", "mode", ">passed", ">failed", ">skipped", ">worst / bound", ">time"]);
    for kernel in kernels(document.cases_of(adapter)) {
        let cases = document.cases_of(adapter).filter(|case| case.kernel == kernel);
        for mode in modes(cases.clone()) {
            let cell = Cell::of(cases.clone().filter(|case| case.mode == mode));
            table.row(vec![
                kernel.into(),
                mode.into(),
                cell.passed.to_string(),
                cell.failed.to_string(),
                cell.skipped.to_string(),
                cell.bounds(),
                seconds(cell.seconds),
            ]);
        }
    }
    text += &table.markdown();
    let skips = skips(document.cases_of(adapter));
    if !skips.is_empty() {
        text += "\nSkipped:\n\n";
        text.extend(skips.iter().map(|(reason, n, kernels)| format!("- {n}: {reason} ({kernels})\n")));
    }
    text
}

fn failures(document: &Document) -> String {
    let n_failed = document.failures().count();
    if n_failed == 0 {
        return String::new();
    }
    let mut text = String::from("\n## Failures\n\n");
    let listed = document.first_failures(EACH, LISTED);
    for case in &listed {
        text += &format!("- **{}**: {}\n", label(case), case.reason.as_deref().unwrap_or_default());
        if let Some(repro) = document.repro(case) {
            text += &format!("  `{repro}`\n");
        }
    }
    if n_failed > listed.len() {
        text += &format!("- and {} more\n", n_failed - listed.len());
    }
    text
}
