//! The report as one page that needs nothing else: `report.html.jinja` filled in.

use anyhow::Result;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Value, context};

use super::case::{CaseEntry, Kind};
use super::document::{AdapterEntry, Document};
use super::histogram::histogram;
use super::sums::{Cell, bounds, kernels, modes, seconds, skips, worst};
use super::text::label;
use crate::devices;
use crate::output::{grouped, human_bytes};

/// Failures of a kernel in a mode that are shown unfolded.
const UNFOLDED: usize = 2;
/// Kernels in the list of the slowest.
const SLOWEST: usize = 5;

/// The document as a page.
///
/// # Errors
/// When the template and this file do not agree.
pub(crate) fn report(document: &Document) -> Result<String> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.add_filter("grouped", grouped);
    environment.add_filter("bounds", bounds);
    environment.add_filter("seconds", seconds);
    environment.add_filter("bytes", human_bytes);
    environment.add_filter("hex", |id: u32| format!("0x{id:04x}"));
    environment.add_filter("scientific", |value: f64| format!("{value:.1e}"));
    // The name's ending turns on the escaping of HTML.
    environment.add_template("report.html", include_str!("report.html.jinja"))?;
    let adapters: Vec<Value> = document.adapters.iter().map(|adapter| view(document, adapter)).collect();
    let context = context! { document => Value::from(Serde(document)), adapters, words => words(&document.command) };
    Ok(environment.get_template("report.html")?.render(context)?)
}

/// What the page says about one adapter.
fn view(document: &Document, adapter: &AdapterEntry) -> Value {
    let cases = || document.cases_of(adapter);
    let kernels = kernels(cases());
    let modes = modes(cases());
    let rows: Vec<Value> = kernels
        .iter()
        .map(|&kernel| {
            let own = || cases().filter(move |case| case.kernel == kernel);
            let cells: Vec<Value> = modes
                .iter()
                .map(|mode| cell(&Cell::of(own().filter(|case| case.mode == *mode))))
                .collect();
            let all = Cell::of(own());
            context! {
                kernel, cells, passed => all.passed, failed => all.failed, skipped => all.skipped,
                worst => all.bounds(), seconds => all.seconds, histogram => histogram(own()), worst_case => worst(own()).map(worst_case),
            }
        })
        .collect();
    let failures = failures(document, adapter);
    let skips: Vec<Value> = skips(cases())
        .into_iter()
        .map(|(reason, n, kernels)| context! { reason, n, kernels })
        .collect();
    context! {
        info => Value::from(Serde(adapter)), label => adapter.label(), modes, rows, failures, skips,
        subgroups => subgroups(adapter), coop => coop(adapter), slowest => slowest(document, adapter),
    }
}

/// A command's program and options, each with its values, which a line should not part.
fn words(command: &str) -> Vec<String> {
    let mut words = command.split(" --");
    let program = words.next().map(str::to_owned);
    program.into_iter().chain(words.map(|word| format!("--{word}"))).collect()
}

/// The failures of each kernel in each mode.
fn failures(document: &Document, adapter: &AdapterEntry) -> Vec<Value> {
    let all: Vec<&CaseEntry> = document.cases_of(adapter).collect();
    let groups = all.chunk_by(|a, b| (&a.kernel, a.mode) == (&b.kernel, b.mode));
    let one = |case: &&CaseEntry| context! { case => Value::from(Serde(*case)), repro => document.repro(case) };
    let group = |group: &[&CaseEntry]| {
        let failed: Vec<Value> = group.iter().filter(|case| case.status == Kind::Failed).map(one).collect();
        let (first, others) = failed.split_at_checked(UNFOLDED).unwrap_or((&failed, &[]));
        let title = format!("{} {}", group[0].kernel, group[0].mode);
        let n = group.iter().filter(|case| case.status != Kind::Skipped).count();
        (!failed.is_empty()).then(|| context! { title, n, failed => failed.len(), first => first.to_vec(), others => others.to_vec() })
    };
    groups.filter_map(group).collect()
}

/// One field of the matrix, with its class.
fn cell(cell: &Cell) -> Value {
    let class = match cell {
        Cell { failed: 1.., .. } => "fail",
        Cell { passed: 1.., .. } => "pass",
        Cell { skipped: 1.., .. } => "skip",
        _ => "none",
    };
    let n = cell.passed + cell.failed;
    context! { class, n, failed => cell.failed, skipped => cell.skipped }
}

fn worst_case(case: &CaseEntry) -> Value {
    context! { mode => case.mode, name => &case.name, worst => case.worst, nmse => case.nmse }
}

fn subgroups(adapter: &AdapterEntry) -> String {
    let caps = &adapter.caps;
    devices::subgroups(caps.subgroup, caps.subgroup_min, caps.subgroup_max)
}

/// Shapes with their types, each once.
fn coop(adapter: &AdapterEntry) -> String {
    let mut shapes: Vec<String> = adapter
        .caps
        .coop
        .iter()
        .map(|shape| format!("{}×{}×{} {}→{}", shape.m, shape.n, shape.k, shape.operands, shape.accumulator))
        .collect();
    shapes.sort();
    shapes.dedup();
    if shapes.is_empty() { "none".into() } else { shapes.join(", ") }
}

fn slowest(document: &Document, adapter: &AdapterEntry) -> Vec<Value> {
    let cases = || document.cases_of(adapter);
    let time = |kernel: &str| Cell::of(cases().filter(|case| case.kernel == kernel));
    let mut kernels: Vec<(&str, Cell)> = kernels(cases()).into_iter().map(|kernel| (kernel, time(kernel))).collect();
    kernels.sort_by(|a, b| b.1.seconds.total_cmp(&a.1.seconds));
    let total: f64 = kernels.iter().map(|(_, cell)| cell.seconds).sum();
    let shown = kernels.into_iter().take(SLOWEST);
    let lines = shown.map(|(kernel, cell)| {
        let longest = cases()
            .filter(|case| case.kernel == kernel)
            .max_by(|a, b| a.seconds.total_cmp(&b.seconds));
        context! {
            kernel, seconds => cell.seconds, share => 100.0 * cell.seconds / total.max(f64::MIN_POSITIVE),
            n => cell.passed + cell.failed, longest => longest.map(|case| context! { label => label(case), seconds => case.seconds }),
        }
    });
    lines.collect()
}
