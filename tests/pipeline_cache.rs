//! The pipeline cache as a user meets it: the answer is the same without it, from it, and over what is left of a broken one.
//!
//! The tests run on the adapter that `QWGPU_TEST_ADAPTER` names, each with a cache folder of its own.

#![cfg(target_os = "linux")] // the cache folder is set by XDG_CACHE_HOME

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Sampled tokens of a tiny model, with this cache folder.
fn run(folder: &Path, variables: &[(&str, &str)]) -> String {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/checkpoints/tiny-dense");
    let mut command = Command::new(env!("CARGO_BIN_EXE_qwgpu"));
    command
        .args(["run", "--ids", "1,2,3", "--temp", "0.9", "--seed", "7", "-n", "8", "-m"])
        .arg(model);
    command.env("XDG_CACHE_HOME", folder);
    for name in ["QWGPU_PIPELINE_CACHE", "QWGPU_SHADERS", "QWGPU_ADAPTER"] {
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
    let output = command.envs(variables.iter().copied()).output().expect("the binary starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert!(
        output.status.success() && !stderr.contains("warning"),
        "{}\n{stderr}",
        output.status
    );
    stdout
}

/// The cache's file; none on backends that have no cache.
fn file(folder: &TempDir) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder.path().join("qwgpu")).ok()?;
    let mut paths = entries.map(|entry| entry.expect("an entry").path());
    paths.find(|path| path.extension().is_some_and(|extension| extension == "bin"))
}

#[test]
fn cold_warm_and_broken_caches_give_the_same_answer() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let answer = run(folder.path(), &[("QWGPU_PIPELINE_CACHE", "0")]);
    assert_eq!(file(&folder), None, "it was turned off");
    assert_eq!(run(folder.path(), &[]), answer, "cold");
    let Some(path) = file(&folder) else {
        return println!("skipped: this backend has no pipeline cache");
    };
    let whole = std::fs::read(&path).expect("the cache");
    assert_eq!(run(folder.path(), &[]), answer, "warm");
    let mut torn = whole.clone();
    torn[whole.len() / 2] ^= 0x55;
    for broken in [&torn[..], &whole[..whole.len() / 2], &whole[..3], &[], &[0; 4096]] {
        std::fs::write(&path, broken).expect("the cache");
        assert_eq!(run(folder.path(), &[]), answer, "after {} bytes", broken.len());
        assert_ne!(std::fs::read(&path).expect("the cache"), broken, "it is replaced");
    }
    // a folder in its place: nothing can be written, and nothing is said
    std::fs::remove_file(&path).expect("the cache");
    std::fs::create_dir_all(path.join("in the way")).expect("a folder");
    assert_eq!(run(folder.path(), &[]), answer);
}
