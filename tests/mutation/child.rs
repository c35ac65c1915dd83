//! What a child does: it runs the quick tier of the kernels it is told, ends at the first failure, and leaves its verdict in a file.

use std::{
    env, fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use qwgpu_suite::{Devices, Event, Selection, Status, Tier};
use regex::Regex;

use crate::judge::Verdict;

/// Kernels to run, separated by commas; tells a child that it is one.
pub(crate) const KERNELS: &str = "QWGPU_MUTANT";
/// The file that takes the verdict.
pub(crate) const VERDICT: &str = "QWGPU_MUTANT_VERDICT";
/// A case that computes longer than this hangs: compiling the slowest variant takes three seconds.
const PATIENCE: Duration = Duration::from_secs(20);
/// The same where the process's own time is not known, or it sleeps.
const PATIENCE_ASLEEP: Duration = Duration::from_secs(300);
/// Cases of one variant of each attention kernel. They run first: the other variants are worth compiling for what these let pass.
const ONE_VARIANT: &str = "F32 . x 7 heads of 64";

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
