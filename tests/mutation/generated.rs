//! Faults made by rule: all with `QWGPU_SLOW=1`, else a sample that is always the same.

use std::{collections::BTreeMap, env, time::Instant};

use crate::{
    judge::{Driver, Judgement, Suspect, Verdict, judge_all},
    mutant::{Compiled, File, Mutant},
    operators, suits,
    survivors::{self, Survivor},
    tell,
};

/// The share of the mutants that must be reported, those apart that no input can tell from the kernel.
const SHARE: f64 = 0.95;
/// Without `QWGPU_SLOW=1`, every so many of them run.
const SAMPLE: usize = 25;

/// Every mutant of every file that compiles to something else than the file, with its key.
fn generate(files: &[File]) -> Vec<(Mutant, String)> {
    let mut all = Vec::new();
    for (i, file) in files.iter().enumerate() {
        let compiled = Compiled::new(file);
        let telling = operators::propose(i, file).into_iter().filter(|mutant| compiled.is_telling(mutant));
        all.extend(telling.map(|mutant| {
            let key = mutant.key(file);
            (mutant, key)
        }));
    }
    all
}

/// SwiftShader, which compiles in a tenth of the time, then llvmpipe for what it lets pass. `None` unless both are there, and llvmpipe is
/// the adapter at hand; with `QWGPU_MUTATE` whatever there is.
fn drivers() -> Option<Vec<Driver>> {
    let file = env::var_os("QWGPU_SWIFTSHADER").filter(|file| !file.is_empty());
    let gpu = qwgpu_suite::gpu(qwgpu_suite::Mode::Native).expect("there is an adapter");
    let llvmpipe = suits() && gpu.info().name.contains("llvmpipe");
    match file {
        Some(file) if llvmpipe => Some(vec![Driver::SwiftShader(file.into()), Driver::AtHand]),
        _ if env::var_os("QWGPU_MUTATE").is_some() => Some(vec![Driver::AtHand]),
        _ => {
            println!("skipped: generated mutants, which take llvmpipe and SwiftShader together (script/test)");
            None
        }
    }
}

#[test]
fn generated_mutants_are_reported() {
    let (files, known) = (File::all(), survivors::known());
    let started = Instant::now();
    let all = generate(&files);
    println!("{} mutants made in {:.1} s", all.len(), started.elapsed().as_secs_f64());
    if env::var("QWGPU_MUTATE").as_deref() == Ok("list") {
        return all.iter().for_each(|(_, key)| println!("{key}"));
    }
    check_list(&all, &known);

    let wanted = env::var("QWGPU_MUTATE").ok();
    let slow = env::var("QWGPU_SLOW").as_deref() == Ok("1");
    let Some(drivers) = drivers() else { return };
    let runs = |(i, (_, key)): &(usize, &(Mutant, String))| match &wanted {
        Some(wanted) if wanted == "survivors" => known.contains_key(key),
        Some(wanted) => wanted.split(',').any(|wanted| key.contains(wanted)),
        None if slow => true,
        None => i % SAMPLE == 0 && !known.contains_key(key),
    };
    let chosen: Vec<&(Mutant, String)> = all.iter().enumerate().filter(runs).map(|(_, mutant)| mutant).collect();
    let suspects: Vec<Suspect<'_>> = chosen
        .iter()
        .map(|(mutant, _)| Suspect {
            file: &files[mutant.file],
            text: mutant.apply(&files[mutant.file]),
        })
        .collect();
    let started = Instant::now();
    let judgements = judge_all(&drivers, &files, &suspects, |i, judgement| tell(&chosen[i].1, judgement));
    println!("{} of them ran in {:.0} s", chosen.len(), started.elapsed().as_secs_f64());
    print_table(&files, &chosen, &judgements);

    let mut wrong = Vec::new();
    for ((_, key), judgement) in chosen.iter().zip(&judgements) {
        let survived = judgement.verdict == Verdict::Survived;
        match known.get(key) {
            None if survived => wrong.push(format!("survives, and survivors.txt does not explain why:\n{key}")),
            Some(_) if !survived => wrong.push(format!("is reported, so it does not belong into survivors.txt:\n{key}")),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{} mutants:\n{}", wrong.len(), wrong.join("\n"));
}

/// Entries name mutants that exist, and are few enough.
fn check_list(all: &[(Mutant, String)], known: &BTreeMap<String, Survivor>) {
    let mut keys: Vec<&String> = all.iter().map(|(_, key)| key).collect();
    keys.sort();
    let twice: Vec<_> = keys.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    assert!(twice.is_empty(), "keys are not unique: {twice:#?}");
    let gone: Vec<&String> = known.keys().filter(|key| keys.binary_search(key).is_err()).collect();
    assert!(gone.is_empty(), "survivors.txt has entries that name no mutant: {gone:#?}");
    let n_equivalent = known.values().filter(|survivor| survivor.equivalent).count();
    let n_unseen = known.values().filter(|survivor| !survivor.equivalent).count();
    let share = 1.0 - n_unseen as f64 / (all.len() - n_equivalent) as f64;
    println!(
        "by survivors.txt {n_equivalent} are equivalent and {n_unseen} go unseen: {:.1} % of the faults are reported",
        100.0 * share
    );
    assert!(share >= SHARE, "only {:.1} % of the faults are reported", 100.0 * share);
}

/// How many mutants of each file ended how, and of each sort of fault.
fn print_table(files: &[File], mutants: &[&(Mutant, String)], judgements: &[Judgement]) {
    let mut rows: BTreeMap<String, BTreeMap<Verdict, usize>> = BTreeMap::new();
    for ((mutant, _), judgement) in mutants.iter().zip(judgements) {
        for row in [
            format!("{}.wgsl", files[mutant.file].name),
            format!("({})", mutant.fault),
            "all".to_owned(),
        ] {
            *rows.entry(row).or_default().entry(judgement.verdict).or_default() += 1;
        }
    }
    println!("| file | mutants | case | compile | crash | hang | survived |\n|---|---|---|---|---|---|---|");
    for (name, counts) in rows {
        let cells: Vec<String> = Verdict::ALL
            .iter()
            .map(|verdict| counts.get(verdict).unwrap_or(&0).to_string())
            .collect();
        println!("| {name} | {} | {} |", counts.values().sum::<usize>(), cells.join(" | "));
    }
}
