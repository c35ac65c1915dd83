//! A mutant runs in processes of its own: it may loop for ever, or take the driver down with it.
//!
//! The test binary starts itself again, with the one test [`child::work`] and a folder of kernels in which one file is changed.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crate::{child, mutant::File};

/// For llvmpipe, where compiling takes nearly all of a mutant's time: half of its vectors' width and no optimisation take a quarter of
/// that. Other cores have mutants of their own, and none is compiled twice.
const LLVMPIPE: [(&str, &str); 4] = [
    ("LP_NATIVE_VECTOR_WIDTH", "128"),
    ("GALLIVM_PERF", "nopt"),
    ("LP_NUM_THREADS", "1"),
    ("MESA_SHADER_CACHE_DISABLE", "true"),
];

/// What a child computes on.
#[derive(Clone, Debug)]
pub(crate) enum Driver {
    /// The adapter that this process was told to use.
    AtHand,
    /// SwiftShader, with the file that describes it to Vulkan.
    SwiftShader(PathBuf),
}

impl Driver {
    fn environment(&self) -> Vec<(&'static str, &Path)> {
        let Self::SwiftShader(file) = self else { return Vec::new() };
        vec![
            ("VK_DRIVER_FILES", file),
            ("VK_ICD_FILENAMES", file), // the loader's older name for it
            ("WGPU_BACKEND", Path::new("vulkan")),
            ("QWGPU_TEST_ADAPTER", Path::new("SwiftShader")),
        ]
    }

    /// Whether it has what some variant of the file needs: SwiftShader has no f16.
    fn can_run(&self, file: &File) -> bool {
        matches!(self, Self::AtHand) || file.variants.iter().any(|variant| !variant.needs_f16())
    }
}

/// How a mutant gave itself away, or that it did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// A case failed.
    Case,
    /// The adapter refused its text.
    Compile,
    /// The process died.
    Crash,
    /// A case did not end.
    Hang,
    /// Every case passed.
    Survived,
}

impl Verdict {
    pub(crate) const ALL: [Self; 5] = [Self::Case, Self::Compile, Self::Crash, Self::Hang, Self::Survived];
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Case => "case",
            Self::Compile => "compile",
            Self::Crash => "crash",
            Self::Hang => "hang",
            Self::Survived => "SURVIVED",
        })
    }
}

/// A verdict and what led to it.
#[derive(Clone, Debug)]
pub(crate) struct Judgement {
    pub(crate) verdict: Verdict,
    pub(crate) why: String,
}

/// One file's changed text, to be judged.
pub(crate) struct Suspect<'a> {
    pub(crate) file: &'a File,
    pub(crate) text: String,
}

/// Judges all of them, as many at a time as there are cores, each on one driver after the other until one reports it. `tell` hears of
/// each as it is done.
pub(crate) fn judge_all(
    drivers: &[Driver],
    files: &[File],
    suspects: &[Suspect<'_>],
    tell: impl Fn(usize, &Judgement) + Sync,
) -> Vec<Judgement> {
    // several tests of this binary judge; together they would take more cores than there are
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let next = AtomicUsize::new(0);
    let judgements: Vec<Mutex<Option<Judgement>>> = suspects.iter().map(|_| Mutex::new(None)).collect();
    let n_threads = thread::available_parallelism().map_or(1, usize::from).min(8);
    let worker = || {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(suspect) = suspects.get(i) else { break };
            let judgement = judge(drivers, files, suspect);
            tell(i, &judgement);
            *judgements[i].lock().unwrap_or_else(PoisonError::into_inner) = Some(judgement);
        }
    };
    thread::scope(|scope| {
        for _ in 0..n_threads {
            scope.spawn(worker);
        }
    });
    let taken = judgements
        .into_iter()
        .map(|cell| cell.into_inner().unwrap_or_else(PoisonError::into_inner));
    taken.map(|judgement| judgement.expect("every suspect is judged")).collect()
}

fn judge(drivers: &[Driver], files: &[File], suspect: &Suspect<'_>) -> Judgement {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    fs::create_dir(folder.path().join("shared")).expect("a folder can be made in it");
    for file in files {
        let changed = std::ptr::eq(file, suspect.file);
        let text = if changed { &suspect.text } else { &file.text };
        fs::write(folder.path().join(&file.name).with_extension("wgsl"), text).expect("a file can be written");
    }
    let mut judgement = Judgement {
        verdict: Verdict::Survived,
        why: "no driver can run it".into(),
    };
    for driver in drivers.iter().filter(|driver| driver.can_run(suspect.file)) {
        judgement = run(driver, folder.path(), suspect.file);
        if judgement.verdict != Verdict::Survived {
            break;
        }
    }
    judgement
}

fn run(driver: &Driver, folder: &Path, file: &File) -> Judgement {
    let (verdict, log) = (folder.join("verdict"), folder.join("log"));
    let output = fs::File::create(&log).expect("a file can be written");
    let status = Command::new(env::current_exe().expect("the test binary knows itself"))
        .args(["--exact", "child::work", "--nocapture", "--test-threads=1"])
        .env("QWGPU_SHADERS", folder)
        .env(child::KERNELS, file.kernels().join(","))
        .env(child::VERDICT, &verdict)
        .envs(LLVMPIPE)
        .envs(driver.environment())
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("a file can be shared"))
        .stderr(output)
        .status()
        .expect("the test binary can be started again");
    let told = fs::read_to_string(&verdict).ok();
    let _ = fs::remove_file(&verdict); // the next driver's is another
    let parsed = told.as_deref().and_then(|told| {
        let (word, why) = told.split_once('\n')?;
        let verdict = Verdict::ALL.into_iter().find(|verdict| verdict.to_string() == word)?;
        Some((verdict, why.to_owned()))
    });
    let (verdict, why) = parsed.unwrap_or_else(|| {
        let log = fs::read_to_string(&log).unwrap_or_default();
        let last = log.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().to_owned();
        (Verdict::Crash, format!("{status}: {last}"))
    });
    assert!(!why.starts_with("no device"), "{why}");
    Judgement { verdict, why }
}
