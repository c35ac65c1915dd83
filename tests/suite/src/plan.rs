//! What a run would take, before any device is opened.

use qwgpu_runtime::Caps;

use crate::{Mode, Scale, Selection, cases, run::in_groups};

/// A case in a mode, as a run would take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// What `--repro` takes.
    pub id: String,
    /// The kernel's stem.
    pub kernel: &'static str,
    /// What is taken away.
    pub mode: Mode,
    /// The case.
    pub name: String,
}

/// The cases that [`crate::run`] would run on an adapter with these capabilities, in the same order.
#[must_use]
pub fn plan(caps: &Caps, selection: &Selection) -> Vec<Planned> {
    let items = selection.items(Scale::suiting(caps), |case| Mode::telling(case.axes, caps));
    let planned = in_groups(&items).map(|(case, mode)| Planned {
        id: case.id(mode),
        kernel: case.kernel,
        mode,
        name: case.name.clone(),
    });
    planned.collect()
}

/// The kernels that have cases, in the order in which they run.
#[must_use]
pub fn kernels() -> Vec<&'static str> {
    let mut kernels: Vec<&str> = cases::all(Scale::Cut).iter().map(|case| case.kernel).collect();
    kernels.sort_unstable();
    kernels.dedup();
    kernels
}
