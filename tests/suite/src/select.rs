//! Which cases a run takes.

use regex::Regex;

use crate::{Case, Mode, Scale, Tier, cases};

/// What to run; the default is the whole quick tier.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// How much.
    pub tier: Tier,
    /// These kernels alone; empty takes all.
    pub kernels: Vec<String>,
    /// Only cases whose [`label`] matches.
    pub case: Option<Regex>,
    /// Only the case with this [`Case::id`], whatever its tier.
    pub id: Option<String>,
    /// Only every n-th, from the i-th on, counted from 1: `(i, n)`.
    pub shard: Option<(usize, usize)>,
}

impl Selection {
    /// The whole of one kernel, in this tier.
    #[must_use]
    pub fn kernel(stem: &str, tier: Tier) -> Self {
        Self {
            tier,
            kernels: vec![stem.to_owned()],
            ..Self::default()
        }
    }

    /// Whether it takes every case of its tier.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.kernels.is_empty() && self.case.is_none() && self.id.is_none() && self.shard.is_none()
    }

    /// Whether it takes this case in this mode, the shard apart.
    fn takes(&self, case: &Case, mode: Mode) -> bool {
        if let Some(id) = &self.id {
            return case.id(mode) == *id;
        }
        let kernel = self.kernels.is_empty() || self.kernels.iter().any(|kernel| kernel == case.kernel);
        kernel && case.tier <= self.tier && self.case.as_ref().is_none_or(|case_| case_.is_match(&label(case, mode)))
    }

    /// The cases, in the order of kernels, each with the modes in which `telling` says it is to run.
    pub(crate) fn items(&self, scale: Scale, telling: impl Fn(&Case) -> Vec<Mode>) -> Vec<(Case, Vec<Mode>)> {
        let mut n = 0;
        let mut in_shard = || {
            n += 1;
            self.shard.is_none_or(|(i, of)| (n - 1) % of == i - 1)
        };
        let all = cases::all(scale).into_iter().map(|case| {
            let mut modes = telling(&case);
            modes.retain(|&mode| self.takes(&case, mode) && in_shard());
            (case, modes)
        });
        let mut items: Vec<_> = all.filter(|(_, modes)| !modes.is_empty()).collect();
        items.sort_by_key(|(case, _)| case.kernel); // stable: some modules make cases of two kernels
        items
    }
}

/// Kernel, mode and name of a case: what a regular expression is matched against.
#[must_use]
pub fn label(case: &Case, mode: Mode) -> String {
    format!("{} {} {}", case.kernel, mode.name(), case.name)
}
