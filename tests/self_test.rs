//! The self-test at start-up as a user meets it: a fault planted in a probe turns that path off, with a warning, and the answer
//! stays right; the verdict is remembered for the same driver alone; a broken cache breaks nothing.
//!
//! The tests run on the adapter that `QWGPU_TEST_ADAPTER` names, each with a cache folder of its own. Faults are planted in a copy
//! of `shaders/` (`QWGPU_SHADERS`), which is what a driver that computes wrong looks like from outside.

#![cfg(target_os = "linux")] // the cache folder is set by XDG_CACHE_HOME

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

/// A path, the probe's file, and a text in it with its faulty replacement.
const FAULTS: [[&str; 4]; 4] = [
    ["f16", "probe_f16", "vec4<f32>(narrow[i])", "vec4<f32>(narrow[i] + narrow[0])"],
    ["subgroup", "probe_subgroup", "subgroupMax(value)", "max(subgroupMax(value), 0.0)"],
    [
        "dot",
        "probe_dot",
        "unsigned += dot4U8Packed(",
        "unsigned += dot4U8Packed(1u, 1u) + dot4U8Packed(",
    ],
    ["coop", "probe_coop", "coopStoreT(", "coopStore("],
];

/// A cache folder and a copy of the shaders.
struct Home {
    folder: TempDir,
}

struct Outcome {
    stdout: String,
    stderr: String,
}

impl Outcome {
    fn warnings(&self) -> Vec<&str> {
        self.stderr.lines().filter(|line| line.starts_with("warning: ")).collect()
    }
}

impl Home {
    fn new() -> Self {
        let home = Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
        };
        let copy = |from: PathBuf, to: PathBuf| {
            std::fs::create_dir_all(&to).expect("a folder");
            for entry in std::fs::read_dir(from).expect("the shaders") {
                let path = entry.expect("an entry").path();
                if path.extension().is_some_and(|extension| extension == "wgsl") {
                    std::fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("a copy");
                }
            }
        };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
        copy(source.clone(), home.shaders());
        copy(source.join("shared"), home.shaders().join("shared"));
        home
    }

    fn shaders(&self) -> PathBuf {
        self.folder.path().join("shaders")
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("qwgpu").join("self_test.json")
    }

    fn cached(&self) -> Value {
        let text = std::fs::read_to_string(self.cache()).expect("a cache");
        serde_json::from_str(&text).expect("JSON")
    }

    /// Changes the one adapter that the cache knows.
    fn edit(&self, change: impl FnOnce(&mut Value)) {
        let mut cached = self.cached();
        change(&mut cached["adapters"][0]);
        std::fs::write(self.cache(), cached.to_string()).expect("a cache");
    }

    fn plant(&self, file: &str, text: &str, fault: &str) {
        let path = self.shaders().join(file).with_extension("wgsl");
        let right = std::fs::read_to_string(&path).expect("the probe");
        assert_eq!(right.matches(text).count(), 1, "{text} in {file}");
        std::fs::write(path, right.replace(text, fault)).expect("the probe");
    }

    fn qwgpu(&self, args: &[&str], variables: &[(&str, &str)]) -> Outcome {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qwgpu"));
        command.args(args).env("XDG_CACHE_HOME", self.folder.path());
        for name in [
            "QWGPU_DISABLE",
            "QWGPU_SELF_TEST",
            "QWGPU_SHADERS",
            "QWGPU_ADAPTER",
            "QWGPU_MEMORY_MIB",
        ] {
            command.env_remove(name);
        }
        // Mesa's compiled kernels may be shared: only qwgpu's own cache has to be new
        let shared = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        if let Some(shared) = shared.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache"))) {
            command.env("MESA_SHADER_CACHE_DIR", shared);
        }
        if let Some(adapter) = std::env::var_os("QWGPU_TEST_ADAPTER").filter(|name| !name.is_empty()) {
            command.env("QWGPU_ADAPTER", adapter);
        }
        command.envs(variables.iter().copied());
        let output = command.output().expect("the binary starts");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        assert!(output.status.success(), "{}\n{stderr}", output.status);
        Outcome { stdout, stderr }
    }

    /// Four greedy tokens of a tiny model, with the copy of the shaders.
    fn run(&self, variables: &[(&str, &str)]) -> Outcome {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/checkpoints/tiny-dense");
        let (model, shaders) = (model.display().to_string(), self.shaders().display().to_string());
        let args = ["run", "-m", &model, "--ids", "1,2,3", "--greedy", "-n", "4", "--kv-dtype", "f32"];
        self.qwgpu(&args, &[&[("QWGPU_SHADERS", shaders.as_str())], variables].concat())
    }
}

/// The names of the verdicts that the cache holds, and whether each is good.
fn verdicts(cached: &Value) -> Vec<(String, bool)> {
    let verdicts = cached["adapters"][0]["verdicts"].as_object().expect("verdicts");
    let verdict = |(name, verdict): (&String, &Value)| (name.clone(), verdict["ok"].as_bool().expect("a verdict"));
    verdicts.iter().map(verdict).collect()
}

#[test]
fn an_honest_adapter_is_trusted_and_asked_once() {
    let home = Home::new();
    let first = home.run(&[]);
    assert!(first.warnings().is_empty(), "{}", first.stderr);
    let cached = home.cached();
    assert!(verdicts(&cached).iter().all(|(_, ok)| *ok), "{cached}");
    assert!(verdicts(&cached).iter().any(|(name, _)| name == "probe_dot"), "{cached}");
    let written = std::fs::metadata(home.cache()).and_then(|file| file.modified()).expect("a time");
    assert_eq!(home.run(&[]).stdout, first.stdout);
    let after = std::fs::metadata(home.cache()).and_then(|file| file.modified()).expect("a time");
    assert_eq!((home.cached(), after), (cached, written), "the second start reads alone");
}

#[test]
fn a_planted_fault_turns_off_its_path_alone() {
    let home = Home::new();
    let honest = home.run(&[]);
    let offered: Vec<String> = verdicts(&home.cached()).into_iter().map(|(name, _)| name).collect();
    for [path, file, text, fault] in FAULTS {
        if !offered.iter().any(|name| name.starts_with(file)) {
            println!("skipped: {path}, which the adapter has not got");
            continue;
        }
        let home = Home::new();
        home.plant(file, text, fault);
        for start in ["first", "second"] {
            let outcome = home.run(&[]);
            let warnings = outcome.warnings();
            let warned = format!("warning: {path} is off: this driver computes it wrong ({file}: ");
            assert!(
                warnings.len() == 1 && warnings[0].starts_with(&warned) && warnings[0].contains(" instead of "),
                "{start}: {}",
                outcome.stderr
            );
            assert_eq!(outcome.stdout, honest.stdout, "{path}, {start} start");
        }
        for (name, ok) in verdicts(&home.cached()) {
            assert_eq!(ok, !name.starts_with(file), "{path}: {name}");
        }
        let quiet = home.run(&[("QWGPU_DISABLE", path)]);
        assert!(quiet.warnings().is_empty(), "off by the user's own wish: {}", quiet.stderr);
        let skipped = home.run(&[("QWGPU_SELF_TEST", "0")]);
        assert!(skipped.warnings().is_empty(), "{}", skipped.stderr);
    }
}

#[test]
fn a_probe_that_does_not_compile_turns_off_its_path() {
    let home = Home::new();
    home.plant("probe_dot", "unsigned += ", "unsigned += no_such_name + ");
    let outcome = home.run(&[]);
    let warnings = outcome.warnings();
    assert!(
        warnings.len() == 1 && warnings[0].contains("dot is off: this driver does not compile it (probe_dot: "),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_verdict_holds_for_its_driver_alone() {
    let home = Home::new();
    home.run(&[]);
    let distrust = |entry: &mut Value| entry["verdicts"]["probe_dot"] = serde_json::json!({ "ok": false, "why": "so it is written" });
    home.edit(distrust);
    let believed = home.run(&[]);
    assert_eq!(
        believed.warnings(),
        ["warning: dot is off: so it is written; qwgpu test tells more"]
    );
    let shaders = home.shaders().display().to_string();
    let devices = || home.qwgpu(&["devices", "--json"], &[("QWGPU_SHADERS", &shaders)]).stdout;
    assert!(devices().contains("so it is written"), "{}", devices());

    let original = home.cached()["adapters"][0].clone();
    for (field, other) in [
        ("adapter", Value::from("another")),
        ("device", 12345.into()),
        ("qwgpu", "0.0.0".into()),
        ("shaders", "0".into()),
        ("driver", "another".into()),
    ] {
        home.edit(|entry| {
            *entry = original.clone();
            entry[field] = other;
        });
        assert!(!devices().contains("so it is written"), "{field}");
    }
    let outcome = home.run(&[]);
    assert!(outcome.warnings().is_empty(), "{}", outcome.stderr);
    let cached = home.cached();
    assert_eq!(cached["adapters"].as_array().map(Vec::len), Some(2), "both drivers: {cached}");
}

#[test]
fn a_broken_cache_breaks_nothing() {
    let home = Home::new();
    home.run(&[]);
    let whole = home.cached();
    for text in ["", "{", "[1, 2]", "\u{0}", "{\"adapters\": [{}]}"] {
        std::fs::write(home.cache(), text).expect("a cache");
        let outcome = home.run(&[]);
        assert!(outcome.warnings().is_empty(), "{}", outcome.stderr);
        assert_eq!(home.cached(), whole, "after {text:?}");
    }
    // a file where the folder should be: nothing can be written, and nothing is said
    std::fs::remove_dir_all(home.folder.path().join("qwgpu")).expect("the folder");
    std::fs::write(home.folder.path().join("qwgpu"), "in the way").expect("a file");
    assert!(home.run(&[]).warnings().is_empty());
}

#[test]
fn processes_that_start_together_leave_a_whole_cache() {
    let home = Home::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| home.run(&[]));
        }
    });
    assert!(verdicts(&home.cached()).iter().all(|(_, ok)| *ok));
    let left = std::fs::read_dir(home.folder.path().join("qwgpu")).expect("the folder").count();
    assert_eq!(left, 1, "no temporary file stays");
}
