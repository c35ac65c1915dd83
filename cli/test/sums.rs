//! Sums over cases, and how figures are written.

use std::collections::BTreeMap;

use qwgpu_suite::Mode;

use super::case::{CaseEntry, Kind};

/// Cases of one kernel in one mode, or any others together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cell {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
    pub(crate) seconds: f64,
    /// The largest error in units of its bound.
    pub(crate) worst: Option<f64>,
}

impl Cell {
    /// Counts one more.
    pub(crate) fn add(&mut self, kind: Kind, seconds: f64, worst: Option<f64>) {
        match kind {
            Kind::Passed => self.passed += 1,
            Kind::Failed => self.failed += 1,
            Kind::Skipped => self.skipped += 1,
        }
        self.seconds += seconds;
        if worst.is_some_and(|worst| self.worst.is_none_or(|largest| is_worse(worst, largest))) {
            self.worst = worst;
        }
    }

    /// The largest error as text; failures without a figure leave nothing to say, whatever else has passed.
    pub(crate) fn bounds(&self) -> String {
        let hidden = self.failed > 0 && self.worst.is_some_and(|worst| worst <= 1.0);
        bounds(self.worst.filter(|_| !hidden))
    }

    /// Of these cases.
    pub(crate) fn of<'a>(cases: impl IntoIterator<Item = &'a CaseEntry>) -> Self {
        let mut cell = Self::default();
        for case in cases {
            cell.add(case.status, case.seconds, case.worst);
        }
        cell
    }
}

/// NaN is worse than anything.
fn is_worse(a: f64, b: f64) -> bool {
    !b.is_nan() && (a.is_nan() || a > b)
}

/// The case with the largest error.
pub(crate) fn worst<'a>(cases: impl IntoIterator<Item = &'a CaseEntry>) -> Option<&'a CaseEntry> {
    let measured = cases.into_iter().filter_map(|case| Some((case, case.worst?)));
    let worst = measured.reduce(|a, b| if is_worse(b.1, a.1) { b } else { a });
    worst.map(|(case, _)| case)
}

/// The kernels of these cases in their order.
pub(crate) fn kernels<'a>(cases: impl IntoIterator<Item = &'a CaseEntry>) -> Vec<&'a str> {
    let mut kernels = Vec::new();
    for case in cases {
        if !kernels.contains(&case.kernel.as_str()) {
            kernels.push(&case.kernel);
        }
    }
    kernels
}

/// The modes of these cases in the order of [`Mode::ALL`].
pub(crate) fn modes<'a>(cases: impl IntoIterator<Item = &'a CaseEntry> + Clone) -> Vec<&'static str> {
    let has = |mode: &&str| cases.clone().into_iter().any(|case| case.mode == *mode);
    Mode::ALL.into_iter().map(Mode::name).filter(has).collect()
}

/// Why cases were skipped: the reason, how many, and of which kernels.
pub(crate) fn skips<'a>(cases: impl IntoIterator<Item = &'a CaseEntry>) -> Vec<(&'a str, usize, String)> {
    let mut reasons: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for case in cases.into_iter().filter(|case| case.status == Kind::Skipped) {
        let reason = case.reason.as_deref().unwrap_or_default();
        *reasons.entry(reason).or_default().entry(&case.kernel).or_default() += 1;
    }
    let lines = reasons.into_iter().map(|(reason, kernels)| {
        let names: Vec<String> = kernels.iter().map(|(kernel, n)| format!("{kernel} {n}")).collect();
        (reason, kernels.values().sum(), names.join(", "))
    });
    lines.collect()
}

/// An error in units of its bound.
pub(crate) fn bounds(worst: Option<f64>) -> String {
    match worst {
        None => "-".into(),
        Some(0.0) => "exact".into(),
        Some(worst) if worst.is_nan() => "NaN".into(),
        Some(worst) if worst.is_infinite() => "inf".into(),
        Some(worst) if !(0.0005..1000.0).contains(&worst) => format!("{worst:.0e}"),
        Some(worst) if worst >= 10.0 => format!("{worst:.1}"),
        Some(worst) => format!("{worst:.3}"),
    }
}

/// A time.
pub(crate) fn seconds(seconds: f64) -> String {
    if seconds < 100.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{}:{:02.0} min", (seconds / 60.0) as u64, (seconds % 60.0).floor())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_is_the_worst_and_stays_it() {
        let mut cell = Cell::default();
        for worst in [Some(0.5), None, Some(f64::NAN), Some(f64::INFINITY)] {
            cell.add(Kind::Passed, 0.0, worst);
        }
        assert!(cell.worst.is_some_and(f64::is_nan));
        assert_eq!(cell.passed, 4);
    }

    #[test]
    fn figures_read_well() {
        assert_eq!(
            [None, Some(0.0), Some(0.25), Some(12.34), Some(1e6), Some(f64::NAN)].map(bounds),
            ["-", "exact", "0.250", "12.3", "1e6", "NaN"]
        );
        assert_eq!([seconds(1.25), seconds(125.9)], ["1.2 s", "2:05 min"]);
    }
}
