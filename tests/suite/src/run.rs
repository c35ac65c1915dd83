//! The runner: cases in the order of kernels and modes, one at a time, each with a reason where it did not run.
//!
//! A run without a single executed case is a failure, and so is a whole run of the full tier that leaves out a variant which the
//! adapter offers: silence never passes for success.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

use qwgpu_runtime::{Caps, Variant};

use crate::{Case, CaseResult, Devices, Failure, Mode, Report, Scale, Selection, Status};

/// What a run tells while it goes on.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The number of cases to come, modes counted.
    Start(usize),
    /// This kernel begins in this mode.
    Group(&'static str, Mode),
    /// A case has ended.
    Done(&'a CaseResult),
}

/// Runs the selected cases on one adapter. `observe` hears of everything, and ends the run by returning `false`.
///
/// # Errors
/// When the adapter does not open, in words.
pub fn run(devices: &Devices, selection: &Selection, observe: &mut dyn FnMut(Event<'_>) -> bool) -> Result<Report, String> {
    let started = Instant::now();
    let native = devices.get(Mode::Native)?;
    let caps = native.caps();
    let items = selection.items(Scale::of(&native), |case| Mode::telling(case.axes, caps));
    let mut results = Vec::new();
    let total = items.iter().map(|(_, modes)| modes.len()).sum();
    let mut going = observe(Event::Start(total));
    let mut group = None;
    for (case, mode) in in_groups(&items) {
        if going && group != Some((case.kernel, mode)) {
            group = Some((case.kernel, mode));
            going = observe(Event::Group(case.kernel, mode));
        }
        if !going {
            break;
        }
        let result = one(devices, case, mode);
        going = observe(Event::Done(&result));
        results.push(result);
    }
    let dispatched = devices.dispatched();
    let offered = offered(caps);
    let unseen = offered.iter().filter(|variant| !dispatched.contains(variant));
    Ok(Report {
        adapter: native.info().clone(),
        tier: selection.tier,
        whole: selection.is_whole() && going,
        results,
        n_variants: offered.len(),
        unseen_variants: unseen.map(|variant| format!("{variant:?}")).collect(),
        time: started.elapsed(),
    })
}

/// Every kernel's cases mode by mode.
pub(crate) fn in_groups(items: &[(Case, Vec<Mode>)]) -> impl Iterator<Item = (&Case, Mode)> {
    let kernels = items.chunk_by(|a, b| a.0.kernel == b.0.kernel);
    kernels.flat_map(|kernel| {
        Mode::ALL.into_iter().flat_map(move |mode| {
            let in_mode = kernel.iter().filter(move |(_, modes)| modes.contains(&mode));
            in_mode.map(move |(case, _)| (case, mode))
        })
    })
}

/// The variants of kernels that an adapter can run. Probes of the self-test and peaks, which measure an adapter, are
/// no kernels.
fn offered(caps: &Caps) -> Vec<Variant> {
    let can_run = |variant: &Variant| {
        (caps.f16 || !variant.needs_f16())
            && (caps.subgroup || !variant.needs_subgroups())
            && (!caps.coop.is_empty() || !variant.needs_coop())
            && !matches!(variant, Variant::Probe(_) | Variant::Peak(_))
    };
    Variant::all().into_iter().filter(can_run).collect()
}

fn one(devices: &Devices, case: &Case, mode: Mode) -> CaseResult {
    let started = Instant::now();
    let status = match devices.get(mode) {
        Err(reason) => Status::Failed(Failure::new(reason)),
        Ok(gpu) => match case.lacks(gpu.caps()) {
            Some(reason) => Status::Skipped(reason),
            None => {
                // wgpu's GL backend takes a second thread for a deadlock after a second of waiting; and no pipeline is compiled twice
                static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
                let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
                case.run(&gpu).map_or_else(Status::Failed, Status::Passed)
            }
        },
    };
    CaseResult {
        id: case.id(mode),
        kernel: case.kernel,
        mode,
        name: case.name.clone(),
        status,
        time: started.elapsed(),
    }
}
