//! One case in full: what `--repro` prints.

use super::case::Kind;
use super::document::Document;
use super::sums::{bounds, seconds};
use crate::output::grouped;
use crate::table::Table;

/// Everything that is known about the cases of a run with one id, which is one for each adapter.
pub(crate) fn dump(document: &Document) -> String {
    let mut text = String::new();
    for case in &document.cases {
        let adapter = document.adapters.iter().find(|adapter| adapter.index == case.adapter);
        let mut lines = vec![
            ("id", case.id.clone().unwrap_or_default()),
            ("kernel", case.kernel.clone()),
            ("mode", case.mode.into()),
            ("name", case.name.clone()),
            ("adapter", adapter.map_or_else(String::new, |adapter| adapter.label())),
            ("driver", adapter.map_or_else(String::new, |adapter| adapter.driver.clone())),
            ("status", status(case.status).into()),
            ("time", seconds(case.seconds)),
        ];
        lines.extend(document.environment.iter().map(|(name, value)| (*name, value.clone())));
        if let (Some(n), Some(max_abs), Some(nmse)) = (case.n_values, case.max_abs, case.nmse) {
            lines.push(("values compared", grouped(n as u64)));
            lines.push(("worst", format!("{} of its bound", bounds(case.worst))));
            lines.push(("largest difference", format!("{max_abs:.2e}")));
            lines.push(("NMSE", format!("{nmse:.1e}")));
        }
        if let Some(reason) = &case.reason {
            lines.push(("reason", reason.clone()));
        }
        text.extend(lines.iter().map(|(name, value)| format!("{name:<18}  {value}\n")));
        if !case.mismatches.is_empty() {
            let mut table = Table::new(&["at", ">got", ">expected"]);
            for mismatch in &case.mismatches {
                table.row(vec![mismatch.at.clone(), mismatch.got.clone(), mismatch.expected.clone()]);
            }
            text += &format!("\nThe first {} values that are off:\n{}", case.mismatches.len(), table.plain());
        }
        text += "\n";
    }
    text
}

fn status(kind: Kind) -> &'static str {
    match kind {
        Kind::Passed => "passed",
        Kind::Failed => "failed",
        Kind::Skipped => "skipped",
    }
}
