//! What standard error shows while cases run: a row for each kernel and mode, failures at once, and on a terminal a bar below.

use std::time::Duration;

use console::style;
use indicatif::ProgressBar;
use qwgpu_suite::{CaseResult, Event, Mode, Status, Tier};

use super::Plan;
use super::case::Kind;
use super::sums::{Cell, seconds};
use crate::model_args::counting_bar;
use crate::output::grouped;

/// Failures of one row that are shown; the summary and the reports have the others.
const SHOWN: usize = 5;

/// The table of one adapter.
pub(crate) struct Live {
    bar: ProgressBar,
    /// Of the widest name of a kernel.
    width: usize,
    row: Option<(&'static str, Mode)>,
    cell: Cell,
}

impl Live {
    /// Says what is about to run; `by_kind` when the adapter's kind has decided about the tier.
    pub(crate) fn new(plan: &Plan, by_kind: bool) -> Self {
        let width = plan.cases.iter().map(|case| case.kernel.len()).chain([6]).max();
        let live = Self {
            bar: counting_bar(plan.cases.len(), "testing"),
            width: width.unwrap_or_default(),
            row: None,
            cell: Cell::default(),
        };
        let tier = match (plan.selection.tier, by_kind) {
            (Tier::Quick, true) => "quick tier, this being a CPU driver (--tier full runs everything)",
            (Tier::Quick, false) => "quick tier",
            (Tier::Full, _) => "full tier",
        };
        let adapter = &plan.adapter;
        live.say(&style(adapter.label()).for_stderr().bold().to_string());
        live.say(&format!("driver {}", adapter.driver));
        let n = plan.cases.len();
        let cases = if n == 1 { "case" } else { "cases" };
        if plan.selection.id.is_none() {
            live.say(&format!("{tier}: {} {cases}\n", grouped(n as u64)));
            let header = live.line(["kernel", "mode", "passed", "failed", "skipped", "worst", "time"].map(String::from));
            live.say(&style(header).for_stderr().dim().to_string());
        }
        // A case may take seconds, and the clock should not stand still meanwhile.
        live.bar.enable_steady_tick(Duration::from_millis(250));
        live
    }

    /// Follows the run.
    pub(crate) fn hear(&mut self, event: Event<'_>) {
        match event {
            Event::Start(total) => self.bar.set_length(total as u64),
            Event::Group(kernel, mode) => {
                self.end_row();
                self.row = Some((kernel, mode));
                self.bar.set_message(format!("{kernel} {}", mode.name()));
            }
            Event::Done(result) => self.done(result),
        }
    }

    fn done(&mut self, result: &CaseResult) {
        let (kind, worst) = match &result.status {
            Status::Passed(outcome) => (Kind::Passed, Some(outcome.worst)),
            Status::Failed(failure) => (Kind::Failed, failure.outcome.map(|outcome| outcome.worst)),
            Status::Skipped(_) => (Kind::Skipped, None),
        };
        self.cell.add(kind, result.time.as_secs_f64(), worst);
        if let Status::Failed(failure) = &result.status
            && self.cell.failed <= SHOWN
        {
            let mark = style("FAIL").for_stderr().red().bold();
            let (kernel, mode) = (result.kernel, result.mode.name());
            self.say(&format!("{mark} {} {kernel} {mode} {}", result.id, result.name));
            self.say(&format!("     {}", failure.reason));
        }
        self.bar.inc(1);
    }

    fn end_row(&mut self) {
        let Some((kernel, mode)) = self.row.take() else { return };
        let cell = std::mem::take(&mut self.cell);
        if cell.failed > SHOWN {
            self.say(&format!("     and {} more of {kernel} {}", cell.failed - SHOWN, mode.name()));
        }
        let counts = [cell.passed, cell.failed, cell.skipped].map(|n| if n == 0 { "-".into() } else { grouped(n as u64) });
        let [passed, failed, skipped] = counts;
        let cells = [
            kernel.into(),
            mode.name().into(),
            passed,
            failed,
            skipped,
            cell.bounds(),
            seconds(cell.seconds),
        ];
        let line = self.line(cells);
        let colour = if cell.failed > 0 {
            style(line).red()
        } else if cell.passed > 0 {
            style(line)
        } else {
            style(line).dim()
        };
        self.say(&colour.for_stderr().to_string());
    }

    /// Shows the last row, and why nothing ran where nothing did.
    pub(crate) fn finish(mut self, error: Option<&String>) {
        self.end_row();
        self.bar.finish_and_clear();
        if let Some(error) = error {
            eprintln!("{}: {error}", style("the adapter does not open").for_stderr().red().bold());
        }
        eprintln!();
    }

    fn line(&self, [kernel, mode, passed, failed, skipped, worst, time]: [String; 7]) -> String {
        let width = self.width;
        format!("{kernel:<width$}  {mode:<13}  {passed:>6}  {failed:>6}  {skipped:>7}  {worst:>7}  {time:>8}")
    }

    /// A line above the bar.
    fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }
}
