//! The self-test's probes: what decides at start-up whether an optional path is trusted. Here a failure is a failure.

use qwgpu_runtime::self_test::{self, Probe, Verdict};

use crate::{Case, Failure, Outcome};

pub(super) fn cases() -> Vec<Case> {
    let case = |probe: Probe| {
        let name = format!("{probe:?}");
        let case = Case::new("self_test", name, move |gpu| match self_test::probe(gpu, probe)? {
            Verdict::Right { n_values } => Ok(Outcome {
                n_values,
                ..Outcome::default()
            }),
            Verdict::Wrong { what } => Err(Failure::new(what)),
        });
        case.with_probe(probe).quick(true)
    };
    Probe::ALL.into_iter().map(case).collect()
}
