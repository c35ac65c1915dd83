//! `qwgpu test`: whether the kernels compute right on an adapter and its driver.
//!
//! Cases and tolerances are those of `qwgpu-suite`. While they run, standard error has a table; at the end there is a
//! [`Document`], and everything that is written is made from that.

mod args;
mod case;
mod document;
mod histogram;
mod html;
mod junit;
mod live;
mod markdown;
mod outputs;
mod repro;
mod sums;
mod text;

use anyhow::{Result, anyhow, bail};
use qwgpu_runtime::{AdapterInfo, list_adapters};
use qwgpu_suite::{Devices, Event, Planned, Selection, Status, plan};

use crate::devices::NO_ADAPTER;
use crate::interrupt::{self, Guard};
use crate::output::{Interrupted, StdoutClosed, Usage, print};
use crate::table::Table;
pub(crate) use args::TestArgs;
use document::{Document, End, Run, Verdict};
use live::Live;
use outputs::Outputs;

/// What is to run on one adapter.
struct Plan {
    adapter: AdapterInfo,
    selection: Selection,
    cases: Vec<Planned>,
}

/// Runs the command.
///
/// # Errors
/// One sentence for the user, when the command line is wrong, when anything failed and when nothing ran.
pub(crate) fn run(args: &TestArgs) -> Result<()> {
    // https://no-color.org, which the crate `console` does not look at.
    if std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        console::set_colors_enabled(false);
        console::set_colors_enabled_stderr(false);
    }
    let plans = plans(args)?;
    if args.list {
        return list(&plans);
    }
    let mut outputs = Outputs::open(args)?;
    let (mut runs, mut end) = (Vec::new(), End::Complete);
    let guard = Guard::new();
    for plan in &plans {
        if end == End::Complete {
            let (run, how) = on_adapter(args, plan);
            runs.push(run);
            end = how;
        }
    }
    drop(guard);
    let document = Document::new(args.command(), &runs, end, args.repro.is_some());
    let written = outputs.write(args, &document);
    match written {
        Err(error) if !error.is::<StdoutClosed>() => Err(error),
        written => verdict(&document).and(written),
    }
}

/// The adapters to test and what would run on each.
fn plans(args: &TestArgs) -> Result<Vec<Plan>> {
    let mut plans: Vec<Plan> = adapters(args)?
        .into_iter()
        .map(|adapter| {
            let selection = args.selection(adapter.caps.cpu);
            let cases = plan(&adapter.caps, &selection);
            Plan { adapter, selection, cases }
        })
        .collect();
    if plans.iter().any(|plan| !plan.cases.is_empty()) {
        // Capabilities decide in which modes a case runs, so an id need not be known to every adapter.
        plans.retain(|plan| args.repro.is_none() || !plan.cases.is_empty());
        return Ok(plans);
    }
    match &args.repro {
        Some(id) => Err(Usage(format!("no case has the id {id} here; `qwgpu test --tier full --list` shows all")).into()),
        None => bail!("nothing would run: no case is selected by all of these options; `qwgpu test --list` shows what there is"),
    }
}

/// All adapters, or those that the user means.
fn adapters(args: &TestArgs) -> Result<Vec<AdapterInfo>> {
    let found = list_adapters()?;
    if found.is_empty() {
        bail!(NO_ADAPTER);
    }
    let from_env = || std::env::var("QWGPU_ADAPTER").ok().filter(|name| !name.is_empty());
    let Some(wanted) = args.adapter.clone().or_else(from_env) else {
        return Ok(found);
    };
    let means = |info: &AdapterInfo| {
        wanted.parse().map_or_else(
            |_| {
                let text = format!("{} {} {}", info.name, info.backend, info.kind).to_lowercase();
                text.contains(&wanted.to_lowercase())
            },
            |index: usize| index == info.index,
        )
    };
    let named: Vec<AdapterInfo> = found.iter().filter(|info| means(info)).cloned().collect();
    if named.is_empty() {
        let found: Vec<String> = found.iter().map(|info| format!("{} {}", info.index, info.label())).collect();
        bail!("there is no adapter {wanted}; there are {}", found.join(", "));
    }
    Ok(named)
}

/// Prints each case that would run anywhere, once.
fn list(plans: &[Plan]) -> Result<()> {
    let mut table = Table::new(&["id", "kernel", "mode", "name"]);
    let mut seen = std::collections::HashSet::new();
    for case in plans.iter().flat_map(|plan| &plan.cases) {
        if seen.insert(&case.id) {
            table.row(vec![
                case.id.clone(),
                case.kernel.into(),
                case.mode.name().into(),
                case.name.clone(),
            ]);
        }
    }
    print(&table.plain())
}

/// Runs the cases of one adapter under a live table.
fn on_adapter(args: &TestArgs, plan: &Plan) -> (Run, End) {
    let mut live = Live::new(plan, args.is_default_tier() && args.repro.is_none());
    let devices = Devices::new(Some(plan.adapter.index.to_string()));
    let mut end = End::Complete;
    let report = qwgpu_suite::run(&devices, &plan.selection, &mut |event| {
        live.hear(event);
        let failed = matches!(event, Event::Done(result) if matches!(result.status, Status::Failed(_)));
        if interrupt::asked() {
            end = End::Interrupted;
        } else if failed && args.fail_fast {
            end = End::AtFailure;
        }
        end == End::Complete
    });
    live.finish(report.as_ref().err());
    let run = Run {
        adapter: plan.adapter.clone(),
        tier: plan.selection.tier,
        planned: plan.cases.len(),
        report,
    };
    (run, end)
}

/// Success, or what is wrong in a sentence.
fn verdict(document: &Document) -> Result<()> {
    match document.verdict {
        Verdict::Passed => Ok(()),
        Verdict::Interrupted => Err(Interrupted("while testing").into()),
        Verdict::Failed if document.failed > 0 => {
            let n = document.cases.len();
            bail!("{} of {n} cases failed", document.failed)
        }
        Verdict::Failed => {
            let idle = document.adapters.iter().find(|adapter| adapter.passed == 0);
            let name = idle.map_or_else(String::new, |adapter| format!(" on {}", adapter.label()));
            Err(anyhow!("no case ran{name}, so nothing has been shown"))
        }
    }
}
