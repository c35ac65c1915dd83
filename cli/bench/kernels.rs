//! `qwgpu bench kernels`: every kernel against what the adapter can do.

mod report;

use std::path::Path;

use anyhow::{Context, Result, bail};
use qwgpu_runtime::Gpu;
use qwgpu_suite::bench::{self, BenchCase, Bencher, CeilingKind, KERNELS, Samples, ceilings};

use crate::args::KernelsArgs;
use crate::interrupt::{self, Guard};
use crate::model_args::{counting_bar, open_gpu};
use crate::output::{Interrupted, Usage};
use report::Ceiling;
pub(super) use report::{Report, Row, cells, significant};

use super::roofline;
use super::statistics::{median, spread};

/// Seconds that one dispatch may take, guessed from its operations: systems reset a GPU after two.
const MAX_DISPATCH: f64 = 0.5;
/// The share of its f32 ceiling that an adapter reaches at least, for that guess.
const SHARE: f64 = 0.1;

/// Runs the command.
///
/// # Errors
/// One sentence for the user.
pub(super) fn run(args: &KernelsArgs) -> Result<()> {
    let kernels = chosen(&args.kernels)?;
    if args.repetitions == 0 {
        return Err(Usage("-r is 0, but at least one sample has to be taken".into()).into());
    }
    let gpu = open_gpu(args.adapter.as_deref())?;
    let guard = Guard::new();
    let mut report = Report::new(&gpu, args.warm);
    report.ceilings = ceilings(&gpu)?.iter().map(Ceiling::new).collect();
    if !args.ceilings {
        let (Some(read), Some(f32)) = (report.ceiling(CeilingKind::Read), report.ceiling(CeilingKind::F32)) else {
            bail!(
                "the ceilings cannot be measured on {}: {}",
                gpu.info().label(),
                report.why_no_ceiling()
            );
        };
        let cases: Vec<BenchCase> = kernels.iter().flat_map(|kernel| bench::cases(&gpu, kernel)).collect();
        let mut bencher = Bencher::new(&gpu, args.warm)?;
        let bar = counting_bar(cases.len(), "kernels");
        for case in &cases {
            if interrupt::asked() {
                return Err(Interrupted("while measuring").into());
            }
            bar.set_message(case.kernel);
            let samples = if too_long(&gpu, case, f32) {
                Err("one dispatch might take long enough for the system to reset this GPU".to_owned())
            } else {
                measure(&mut bencher, case, args.repetitions)?
            };
            report.results.push(row(case, samples, read, f32));
            bar.inc(1);
        }
        bar.finish_and_clear();
    }
    drop(guard);
    if let Some(path) = &args.html {
        write(path, &roofline::page(&report)?)?;
    }
    report.print(args.output)
}

/// The kernels to measure, in the order of their names.
fn chosen(names: &[String]) -> Result<Vec<&'static str>> {
    if let Some(name) = names.iter().find(|name| !KERNELS.contains(&name.as_str())) {
        return Err(Usage(format!("there is no kernel {name}; there are {}", KERNELS.join(", "))).into());
    }
    let wanted = |kernel: &&str| names.is_empty() || names.iter().any(|name| name == kernel);
    Ok(KERNELS.into_iter().filter(wanted).collect())
}

fn too_long(gpu: &Gpu, case: &BenchCase, f32: f64) -> bool {
    !gpu.caps().cpu && case.flops as f64 > MAX_DISPATCH * SHARE * f32
}

/// The samples, or why there is no room for this case.
fn measure(bencher: &mut Bencher, case: &BenchCase, repetitions: usize) -> Result<Result<Samples, String>> {
    use qwgpu_runtime::Error::{LimitExceeded, OutOfMemory};
    match bencher.load(case).and_then(|mut loaded| loaded.sample(repetitions)) {
        Ok(samples) => Ok(Ok(samples)),
        Err(OutOfMemory { bytes, .. }) => Ok(Err(format!("the adapter has no room for {bytes} bytes of its data"))),
        Err(LimitExceeded { limit, needed, have, .. }) => Ok(Err(format!("it needs {needed} {limit}, the adapter allows {have}"))),
        Err(error) => Err(error.into()),
    }
}

fn row(case: &BenchCase, samples: Result<Samples, String>, read: f64, f32: f64) -> Row {
    let mut row = Row {
        kernel: case.kernel,
        case: case.name.clone(),
        bytes: case.bytes,
        flops: case.flops,
        ceiling: if case.reads(read, f32) {
            CeilingKind::Read
        } else {
            CeilingKind::F32
        }
        .name(),
        ..Row::default()
    };
    match samples {
        Err(reason) => row.skipped = Some(reason),
        Ok(samples) => {
            let ns = median(&samples.ns);
            row.us = ns / 1e3;
            row.spread_us = spread(&samples.ns) / 1e3;
            row.gb_s = case.bytes as f64 / ns;
            row.tflop_s = case.flops as f64 / ns / 1e3;
            row.percent = case.floor(read, f32) * 1e9 / ns * 100.0;
            row.dispatches = samples.n_dispatches;
            row.copies = samples.copies;
            row.samples_ns = samples.ns;
        }
    }
    row
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
