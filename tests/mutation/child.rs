//! A mutant runs in a process of its own: it may loop for ever, or take the driver down with it.
//!
//! The test binary starts itself again, with the one test [`work`] and a folder of kernels in which one file is changed. The child
//! runs the quick tier of some kernels, ends at the first failure, and leaves its verdict in a file.

use std::{
    env, fmt, fs,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use regex::Regex;

use qwgpu_suite::{Devices, Event, Selection, Status, Tier};

use crate::mutant::File;

/// Kernels to run, separated by commas; tells a child that it is one.
const KERNELS: &str = "QWGPU_MUTANT";
/// The file that takes the verdict.
const VERDICT: &str = "QWGPU_MUTANT_VERDICT";
/// A case that computes longer than this hangs: compiling the slowest variant takes three seconds.
const PATIENCE: Duration = Duration::from_secs(20);
/// The same where the process's own time is not known, or it sleeps.
const PATIENCE_ASLEEP: Duration = Duration::from_secs(300);
/// Cases of one variant of each attention kernel. They run first: the other variants are worth compiling for what these let pass.
const ONE_VARIANT: &str = "F32 . x 7 heads of 64";

/// For llvmpipe, where compiling takes nearly all of a mutant's time: half of its vectors' width and no optimisation take a quarter of
/// that. Other cores have mutants of their own, and none is compiled twice.
const LLVMPIPE: [(&str, &str); 4] = [
    ("LP_NATIVE_VECTOR_WIDTH", "128"),
    ("GALLIVM_PERF", "nopt"),
    ("LP_NUM_THREADS", "1"),
    ("MESA_SHADER_CACHE_DISABLE", "true"),
];

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

/// Judges all of them, as many at a time as there are cores; `tell` hears of each as it is done.
pub(crate) fn judge_all(files: &[File], suspects: &[Suspect<'_>], tell: impl Fn(usize, &Judgement) + Sync) -> Vec<Judgement> {
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
            let judgement = judge(files, suspect);
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

fn judge(files: &[File], suspect: &Suspect<'_>) -> Judgement {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    fs::create_dir(folder.path().join("shared")).expect("a folder can be made in it");
    for file in files {
        let text = if std::ptr::eq(file, suspect.file) {
            &suspect.text
        } else {
            &file.text
        };
        fs::write(folder.path().join(&file.name).with_extension("wgsl"), text).expect("a file can be written");
    }
    let (verdict, log) = (folder.path().join("verdict"), folder.path().join("log"));
    let output = fs::File::create(&log).expect("a file can be written");
    let status = Command::new(env::current_exe().expect("the test binary knows itself"))
        .args(["--exact", "child::work", "--nocapture", "--test-threads=1"])
        .env("QWGPU_SHADERS", folder.path())
        .env(KERNELS, suspect.file.kernels().join(","))
        .env(VERDICT, &verdict)
        .envs(LLVMPIPE)
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("a file can be shared"))
        .stderr(output)
        .status()
        .expect("the test binary can be started again");
    let told = fs::read_to_string(&verdict).ok();
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

fn leave(path: &Path, verdict: Verdict, why: &str) {
    // in one step: a watchdog's half-written verdict must not be read as none
    let part = path.with_extension("part");
    fs::write(&part, format!("{verdict}\n{why}")).expect("the verdict can be written");
    fs::rename(part, path).expect("the verdict can be put in place");
}

/// The child's whole life; in an ordinary run of the tests it has nothing to do.
#[test]
fn work() {
    let (Ok(kernels), Some(verdict)) = (env::var(KERNELS), env::var_os(VERDICT)) else {
        return;
    };
    let verdict = Path::new(&verdict);
    let watch = Watch::start(verdict);
    let devices = Devices::from_env();
    let selections = kernels.split(',').flat_map(|kernel| {
        let whole = Selection::kernel(kernel, Tier::Quick);
        let first = Selection {
            case: Some(Regex::new(ONE_VARIANT).expect("the expression is valid")),
            ..whole.clone()
        };
        [first, whole]
    });
    let mut n_passed = 0;
    for selection in selections {
        let mut failed = None;
        let report = qwgpu_suite::run(&devices, &selection, &mut |event| {
            let Event::Done(result) = event else { return true };
            let name = format!("{} {} {}", result.kernel, result.mode.name(), result.name);
            if let Status::Failed(failure) = &result.status {
                failed = Some(format!("{name}: {failure}"));
            }
            watch.reset(name);
            failed.is_none()
        });
        match report {
            Err(reason) => return leave(verdict, Verdict::Crash, &format!("no device: {reason}")),
            Ok(report) => n_passed += report.counts().passed,
        }
        if let Some(why) = failed {
            let refused = why.contains(" does not compile: ");
            let kind = if refused { Verdict::Compile } else { Verdict::Case };
            return leave(verdict, kind, &why);
        }
    }
    leave(verdict, Verdict::Survived, &format!("{n_passed} cases passed"));
}

/// Ends the process when a case does not end.
struct Watch(Arc<Mutex<Since>>);

struct Since {
    cpu: Duration,
    wall: Instant,
    /// What ended then.
    after: String,
}

impl Since {
    fn new(after: String) -> Self {
        Self {
            cpu: cpu_time().unwrap_or_default(),
            wall: Instant::now(),
            after,
        }
    }
}

impl Watch {
    fn start(verdict: &Path) -> Self {
        let since = Arc::new(Mutex::new(Since::new("the start".into())));
        let (watched, verdict) = (since.clone(), verdict.to_owned());
        thread::spawn(move || {
            loop {
                thread::sleep(Duration::from_millis(100));
                let since = watched.lock().unwrap_or_else(PoisonError::into_inner);
                let cpu = cpu_time().unwrap_or_default().saturating_sub(since.cpu);
                if cpu > PATIENCE || since.wall.elapsed() > PATIENCE_ASLEEP {
                    leave(&verdict, Verdict::Hang, &format!("nothing more after {}", since.after));
                    std::process::abort(); // exit() would wait for the driver
                }
            }
        });
        Self(since)
    }

    fn reset(&self, after: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Since::new(after);
    }
}

/// What this process has computed so far, where the system tells: time on the clock says little on a busy machine.
fn cpu_time() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks = |i: usize| fields.get(i)?.parse::<u64>().ok();
    Some(Duration::from_millis(10 * (ticks(11)? + ticks(12)?))) // utime and stime, in hundredths of a second
}
