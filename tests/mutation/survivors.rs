//! The list of mutants that are known to survive, each with the reason.

use std::collections::BTreeMap;

const LIST: &str = include_str!("survivors.txt");

/// Where a mutant survives, and why.
#[derive(Clone, Debug)]
pub(crate) struct Survivor {
    /// On every adapter, rather than on llvmpipe alone.
    pub(crate) everywhere: bool,
    pub(crate) why: String,
}

/// The list, by [`Mutant::key`](crate::mutant::Mutant::key).
pub(crate) fn known() -> BTreeMap<String, Survivor> {
    parse(LIST)
}

/// A line at the margin is a key, the indented lines below it say where it survives and why.
fn parse(list: &str) -> BTreeMap<String, Survivor> {
    let mut known = BTreeMap::new();
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
            let entry = known.entry(key.clone());
            let survivor = entry.or_insert_with(|| Survivor {
                everywhere: line.trim().starts_with("everywhere: "),
                why: String::new(),
            });
            survivor.why = format!("{} {}", survivor.why, line.trim()).trim().to_owned();
        }
    }
    for (key, survivor) in &known {
        let starts = ["everywhere: ", "llvmpipe: "].iter().any(|start| survivor.why.starts_with(start));
        assert!(starts, "survivors.txt: say where `{key}` survives, not \"{}\"", survivor.why);
    }
    assert!(explained, "survivors.txt: its last entry has no explanation");
    known
}

#[test]
fn keys_may_share_an_explanation() {
    let known = parse("# note\na.wgsl: {1u => 2u}\na.wgsl: {1u => 0u}\n    everywhere: it is\n    unused\n\nb.wgsl: x\n    llvmpipe: y\n");
    assert_eq!(known.len(), 3);
    assert_eq!(known["a.wgsl: {1u => 0u}"].why, "everywhere: it is unused");
    assert!(known["a.wgsl: {1u => 2u}"].everywhere && !known["b.wgsl: x"].everywhere);
}
