//! The list of mutants that are known to survive, each with the reason.

use std::collections::BTreeMap;

const LIST: &str = include_str!("survivors.txt");

/// Why a mutant survives.
#[derive(Clone, Debug)]
pub(crate) struct Survivor {
    /// No input can tell it from the kernel, so it is no fault.
    pub(crate) equivalent: bool,
    pub(crate) why: String,
}

/// The list, by [`Mutant::key`](crate::mutant::Mutant::key).
pub(crate) fn known() -> BTreeMap<String, Survivor> {
    parse(LIST)
}

/// A line at the margin is a key, the indented lines below it explain it.
fn parse(list: &str) -> BTreeMap<String, Survivor> {
    let mut explanations: BTreeMap<String, String> = BTreeMap::new();
    let lines = list.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let mut keys: Vec<String> = Vec::new();
    let mut explained = true;
    for line in lines {
        if !line.starts_with(' ') {
            // several keys may share one explanation
            if explained {
                keys.clear();
            }
            explained = false;
            keys.push(line.to_owned());
            continue;
        }
        explained = true;
        for key in &keys {
            let why = explanations.entry(key.clone()).or_default();
            why.push_str(line.trim());
            why.push(' ');
        }
    }
    assert!(explained, "survivors.txt: its last entry has no explanation");
    let survivors = explanations.into_iter().map(|(key, why)| (key.clone(), Survivor::new(&key, why)));
    survivors.collect()
}

impl Survivor {
    fn new(key: &str, why: String) -> Self {
        let kind = why.split(": ").next().unwrap_or_default();
        let form = ["equivalent", "unseen"].contains(&kind);
        assert!(form, "survivors.txt: say of which kind `{key}` is, not \"{why}\"");
        Self {
            equivalent: kind == "equivalent",
            why,
        }
    }
}

#[test]
fn keys_may_share_an_explanation() {
    let list = "# note\na.wgsl: {1u => 2u}\na.wgsl: {1u => 0u}\n    equivalent: it is\n    unused\n\nb.wgsl: x\n    unseen: y\n";
    let known = parse(list);
    assert_eq!(known.len(), 3);
    assert_eq!(known["a.wgsl: {1u => 0u}"].why, "equivalent: it is unused ");
    assert!(known["a.wgsl: {1u => 2u}"].equivalent && !known["b.wgsl: x"].equivalent);
}
