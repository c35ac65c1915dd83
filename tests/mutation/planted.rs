//! Faults planted by hand, listed in planted.txt: every one must fail a case.

use std::{env, time::Instant};

use qwgpu_suite::Mode;

use crate::{
    judge::{Driver, Judgement, Suspect, Verdict, judge_all},
    mutant::File,
    suits, tell,
};

const LIST: &str = include_str!("planted.txt");

/// One fault.
struct Planted {
    /// File and what is wrong, `stem.wgsl: words`.
    name: &'static str,
    original: String,
    replacement: String,
}

fn planted() -> Vec<Planted> {
    let mut all: Vec<Planted> = Vec::new();
    for line in LIST.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (text, line) = match (line.strip_prefix("- "), line.strip_prefix("+ "), all.last_mut()) {
            (Some(line), _, Some(fault)) => (&mut fault.original, line),
            (_, Some(line), Some(fault)) => (&mut fault.replacement, line),
            _ => {
                all.push(Planted {
                    name: line,
                    original: String::new(),
                    replacement: String::new(),
                });
                continue;
            }
        };
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(line);
    }
    all
}

fn plant<'a>(fault: &Planted, files: &'a [File]) -> Suspect<'a> {
    let file = files.iter().find(|file| fault.name.starts_with(&format!("{}.wgsl: ", file.name)));
    let file = file.unwrap_or_else(|| panic!("planted.txt: {}: no such file", fault.name));
    let n = file.text.matches(&fault.original).count();
    assert_eq!(n, 1, "planted.txt: {}: `{}` stands there {n} times", fault.name, fault.original);
    let text = file.text.replacen(&fault.original, &fault.replacement, 1);
    Suspect { file, text }
}

/// Whether the adapter at hand can run any variant that the file is part of.
fn runs_here(file: &File) -> bool {
    let gpu = qwgpu_suite::gpu(Mode::Native).expect("there is an adapter");
    let caps = gpu.caps();
    let mut variants = file.variants.iter();
    variants.any(|variant| (caps.f16 || !variant.needs_f16()) && (caps.subgroup || !variant.needs_subgroups()))
}

#[test]
fn planted_faults_are_reported() {
    let (files, all) = (File::all(), planted());
    let suspects = all.iter().map(|fault| (fault.name, plant(fault, &files)));
    let wanted = env::var("QWGPU_MUTATE").unwrap_or_default();
    let chosen = |name: &str| wanted.split(',').any(|wanted| name.contains(wanted));
    let all: Vec<(&str, Suspect<'_>)> = suspects.filter(|(name, _)| chosen(name)).collect();
    if !suits() {
        return;
    }
    let (names, suspects): (Vec<&str>, Vec<Suspect<'_>>) = all.into_iter().filter(|(_, suspect)| runs_here(suspect.file)).unzip();
    let started = Instant::now();
    let judgements = judge_all(&[Driver::AtHand], &files, &suspects, |i, judgement| tell(names[i], judgement));
    println!("{} planted faults in {:.0} s", names.len(), started.elapsed().as_secs_f64());
    // a crash would be no proof that a comparison notices
    let noticed = |judgement: &Judgement| judgement.verdict == Verdict::Case;
    let unnoticed = names.iter().zip(&judgements).filter(|(_, judgement)| !noticed(judgement));
    let unnoticed: Vec<&&str> = unnoticed.map(|(name, _)| name).collect();
    assert!(unnoticed.is_empty(), "no case fails for {unnoticed:#?}");
}
