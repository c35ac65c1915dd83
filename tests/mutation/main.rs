//! Whether the kernel tests would notice: kernels with a fault, planted by hand or made by rule, must fail the quick tier.
//!
//! README.md has the figures, and says how to run them for one kernel.

mod child; // a process for each mutant
mod lexer; // WGSL as tokens
mod mutant; // a file and one change to it
mod operators; // faults by rule
mod planted; // faults by hand
mod survivors; // the list of those that go unnoticed

use std::{collections::BTreeMap, env, time::Instant};

use child::{Judgement, Suspect, Verdict, judge_all};
use mutant::{Compiled, Fault, File, Mutant};
use qwgpu_suite::Mode;

/// The share of the generated mutants that a run must report.
const SHARE: f64 = 0.95;
/// Without `QWGPU_SLOW=1`, every so many of the generated mutants run.
const SAMPLE: usize = 25;

/// What llvmpipe computes; elsewhere a mutant may go unnoticed that it reports.
fn is_llvmpipe() -> bool {
    let gpu = qwgpu_suite::gpu(Mode::Native).expect("there is an adapter");
    gpu.info().name.contains("llvmpipe") && gpu.info().backend == "vulkan"
}

/// Whether the adapter can run any variant that the file is part of.
fn runs_here(file: &File) -> bool {
    let gpu = qwgpu_suite::gpu(Mode::Native).expect("there is an adapter");
    let caps = gpu.caps();
    let mut variants = file.variants.iter();
    variants.any(|variant| (caps.f16 || !variant.needs_f16()) && (caps.subgroup || !variant.needs_subgroups()))
}

#[test]
fn planted_faults_are_reported() {
    let files = File::all();
    let wanted = env::var("QWGPU_MUTATE").unwrap_or_default();
    let mut names = Vec::new();
    let mut suspects = Vec::new();
    for planted in planted::PLANTED {
        let file = files.iter().find(|file| file.name == planted.file);
        let file = file.unwrap_or_else(|| panic!("there is no kernel {}.wgsl", planted.file));
        let name = format!("{}.wgsl: {}", planted.file, planted.name);
        let n = file.text.matches(planted.original).count();
        assert_eq!(n, 1, "{name}: `{}` stands there {n} times, not once", planted.original);
        if name.contains(&wanted) && runs_here(file) {
            let text = file.text.replacen(planted.original, planted.replacement, 1);
            suspects.push(Suspect { file, text });
            names.push(name);
        }
    }
    let started = Instant::now();
    let judgements = judge_all(&files, &suspects, |i, judgement| tell(&names[i], judgement));
    println!("{} planted faults in {:.0} s", names.len(), started.elapsed().as_secs_f64());
    let unnoticed: Vec<&String> = names
        .iter()
        .zip(&judgements)
        .filter(|(_, j)| j.verdict == Verdict::Survived)
        .map(|(name, _)| name)
        .collect();
    assert!(unnoticed.is_empty(), "the quick tier does not notice: {unnoticed:#?}");
}

fn tell(name: &str, judgement: &Judgement) {
    let why: String = judgement.why.chars().take(160).collect();
    println!("{:<8} {name}\n         {}", judgement.verdict, why.replace('\n', " "));
}

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
    let llvmpipe = is_llvmpipe();
    let runs = |(i, (mutant, key)): &(usize, &(Mutant, String))| {
        let chosen = match &wanted {
            Some(wanted) => wanted.split(',').any(|wanted| key.contains(wanted)),
            // what llvmpipe reports needs no second adapter
            None if !llvmpipe => slow && known.contains_key(key),
            None if slow => true,
            None => i % SAMPLE == 0 && !known.contains_key(key),
        };
        chosen && runs_here(&files[mutant.file])
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
    let judgements = judge_all(&files, &suspects, |i, judgement| tell(&chosen[i].1, judgement));
    println!("{} of them ran in {:.0} s", chosen.len(), started.elapsed().as_secs_f64());
    print_table(&files, &chosen, &judgements);

    let mut wrong = Vec::new();
    for ((_, key), judgement) in chosen.iter().zip(&judgements) {
        let survived = judgement.verdict == Verdict::Survived;
        match known.get(key) {
            None if survived => wrong.push(format!("survives, and survivors.txt does not explain why:\n{key}")),
            Some(_) if !survived && llvmpipe => wrong.push(format!("is reported, so it does not belong into survivors.txt:\n{key}")),
            Some(entry) if !llvmpipe && survived != entry.everywhere => {
                wrong.push(format!(
                    "{} here, but survivors.txt says \"{}\":\n{key}",
                    judgement.verdict, entry.why
                ));
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{} mutants:\n{}", wrong.len(), wrong.join("\n"));
}

/// Entries name mutants that exist, and are few enough.
fn check_list(all: &[(Mutant, String)], known: &BTreeMap<String, survivors::Survivor>) {
    let mut keys: Vec<&String> = all.iter().map(|(_, key)| key).collect();
    keys.sort();
    let twice: Vec<_> = keys.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    assert!(twice.is_empty(), "keys are not unique: {twice:#?}");
    let gone: Vec<&String> = known.keys().filter(|key| keys.binary_search(key).is_err()).collect();
    assert!(gone.is_empty(), "survivors.txt has entries that name no mutant: {gone:#?}");
    let n_surviving = known.values().filter(|survivor| survivor.everywhere).count();
    let share = 1.0 - n_surviving as f64 / all.len() as f64;
    println!("{n_surviving} survive everywhere by the list: {:.1} % are reported", 100.0 * share);
    assert!(share >= SHARE, "only {:.1} % of the mutants are reported", 100.0 * share);
}

/// How many mutants of each file ended how, and of each sort of fault.
fn print_table(files: &[File], mutants: &[&(Mutant, String)], judgements: &[Judgement]) {
    let mut rows: BTreeMap<String, BTreeMap<Verdict, usize>> = BTreeMap::new();
    for ((mutant, _), judgement) in mutants.iter().zip(judgements) {
        let fault: Fault = mutant.fault;
        for row in [format!("{}.wgsl", files[mutant.file].name), format!("({fault})"), "all".to_owned()] {
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
