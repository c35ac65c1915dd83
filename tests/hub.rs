//! `-m owner/name` against a hub played by a local server: what is fetched, kept, resumed, and said when it fails.
//!
//! The code under test is included from the binary's sources, because a binary exports nothing. No test touches the
//! network: the endpoint is always the local server, or a port where nobody listens. Each has a time limit of its own.

#![cfg(feature = "hub")]

#[allow(unreachable_pub, reason = "a module of this test, written as the small library that it is")]
#[path = "support/fake_hub.rs"]
mod fake_hub;
#[path = "../cli/hub.rs"]
mod hub;

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use fake_hub::{COMMIT, FakeHub, Fault, Request};
use hub::{ModelSource, Settings, resolve, resolve_with};
use tempfile::TempDir;

const REPO: &str = "owner/tiny-model";
const CONFIG: &[u8] = br#"{"model_type":"qwen2"}"#;
const TOKENIZER: &[u8] = br#"{"model":{}}"#;
const SHARD_1: &str = "model-00001-of-00002.safetensors";
const SHARD_2: &str = "model-00002-of-00002.safetensors";
const ALWAYS: usize = usize::MAX;

/// Bytes that differ at every position, so that a part appended at the wrong place shows.
fn weights(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| ((i * 31 + i / 251 + seed * 97) % 253) as u8).collect()
}

fn sharded() -> FakeHub {
    let index = format!(r#"{{"metadata":{{}},"weight_map":{{"a":"{SHARD_1}","b":"{SHARD_2}","c":"{SHARD_1}"}}}}"#);
    let (first, second) = (weights(1, 300_000), weights(2, 200_000));
    FakeHub::start(
        REPO,
        &[
            ("config.json", CONFIG),
            ("tokenizer.json", TOKENIZER),
            ("generation_config.json", b"{}"),
            ("README.md", b"# hello"),
            ("pytorch_model.bin", b"pickled"),
            ("original/model.safetensors", b"other"),
            ("model.safetensors.index.json", index.as_bytes()),
            (SHARD_1, &first),
            (SHARD_2, &second),
        ],
    )
}

fn single(len: usize) -> FakeHub {
    FakeHub::start(
        REPO,
        &[
            ("config.json", CONFIG),
            ("tokenizer.json", TOKENIZER),
            ("model.safetensors", &weights(1, len)),
        ],
    )
}

fn settings(endpoint: &str, home: &Path, more: &[(&str, &str)]) -> Settings {
    let lookup = |name: &str| match more.iter().find(|(key, _)| *key == name) {
        Some((_, value)) => Some((*value).to_owned()),
        None => match name {
            "HF_HOME" => Some(home.to_string_lossy().into_owned()),
            "HF_ENDPOINT" => Some(endpoint.to_owned()),
            "HF_HUB_ETAG_TIMEOUT" | "HF_HUB_DOWNLOAD_TIMEOUT" => Some("1.5".to_owned()),
            _ => None,
        },
    };
    Settings::from_lookup(&lookup, false).expect("usable settings")
}

/// Resolves in a thread of its own; fails when that takes longer than any time-out of the client allows.
fn run(model: &str, settings: &Settings) -> Result<PathBuf, String> {
    let (send, receive) = mpsc::channel();
    let (model, settings) = (model.to_owned(), settings.clone());
    std::thread::spawn(move || send.send(resolve_with(&model, &settings)));
    match receive.recv_timeout(Duration::from_secs(30)).expect("an answer within 30 seconds") {
        Ok(ModelSource::Folder(folder)) => Ok(folder),
        Ok(other) => Err(format!("resolved to {other:?}")),
        Err(err) => Err(format!("{err:#}")),
    }
}

fn home() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// The one unfinished file in the cache.
fn part_in(home: &Path) -> PathBuf {
    let blobs = std::fs::read_dir(home.join("hub/models--owner--tiny-model/blobs")).expect("the blobs");
    blobs
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.to_string_lossy().ends_with(".part"))
        .expect("a part")
}

fn fetched(requests: &[Request]) -> Vec<&str> {
    requests
        .iter()
        .filter(|request| request.path.contains("/resolve/"))
        .filter_map(|request| request.path.rsplit('/').next())
        .collect()
}

#[track_caller]
fn assert_says(result: Result<PathBuf, String>, parts: &[&str]) {
    let message = result.expect_err("a failure");
    for part in parts {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
    assert!(!message.contains('\n'), "more than one line: {message:?}");
}

#[track_caller]
fn assert_weights(folder: &Path, name: &str, seed: usize, len: usize) {
    let have = std::fs::read(folder.join(name)).expect("a weight file");
    assert!(
        have == weights(seed, len),
        "{name} is not what the hub has ({} bytes of {len})",
        have.len()
    );
}

#[test]
fn a_sharded_repository_lands_in_the_shared_cache_layout() {
    let (hub, home) = (sharded(), home());
    let folder = run(REPO, &settings(&hub.endpoint(), home.path(), &[])).expect("a download");
    let repo = home.path().join("hub/models--owner--tiny-model");
    assert_eq!(folder, repo.join("snapshots").join(COMMIT));
    assert_eq!(std::fs::read_to_string(repo.join("refs/main")).expect("the branch"), COMMIT);
    assert_eq!(std::fs::read(folder.join("config.json")).expect("the config"), CONFIG);
    assert_weights(&folder, SHARD_1, 1, 300_000);
    assert_weights(&folder, SHARD_2, 2, 200_000);
    let wanted = [
        "config.json",
        "tokenizer.json",
        "generation_config.json",
        "model.safetensors.index.json",
        SHARD_1,
        SHARD_2,
    ];
    assert_eq!(fetched(&hub.take_requests()), wanted, "each needed file once, nothing else");
    #[cfg(unix)]
    {
        let link = std::fs::read_link(folder.join(SHARD_1)).expect("a link");
        assert!(link.starts_with("../../blobs"), "{}", link.display());
    }
    let parts = std::fs::read_dir(repo.join("blobs")).expect("the blobs").flatten();
    assert!(
        parts.into_iter().all(|entry| !entry.path().to_string_lossy().ends_with(".part")),
        "a part was left over"
    );
}

#[test]
fn a_second_run_asks_only_whether_something_changed() {
    let (hub, home) = (sharded(), home());
    let settings = settings(&hub.endpoint(), home.path(), &[]);
    let first = run(REPO, &settings).expect("a download");
    hub.take_requests();
    assert_eq!(run(REPO, &settings), Ok(first));
    let requests = hub.take_requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(
        requests[0].path.starts_with("/api/models/owner/tiny-model/revision/main"),
        "{requests:?}"
    );
}

#[test]
fn offline_uses_the_cache_and_no_network() {
    let (hub, home) = (sharded(), home());
    let folder = run(REPO, &settings(&hub.endpoint(), home.path(), &[])).expect("a download");
    hub.take_requests();
    let offline = settings(&hub.endpoint(), home.path(), &[("HF_HUB_OFFLINE", "1")]);
    assert_eq!(run(REPO, &offline), Ok(folder.clone()));
    assert_eq!(run(&format!("{REPO}@{COMMIT}"), &offline), Ok(folder.clone()));
    assert_says(run("owner/another", &offline), &["owner/another", "HF_HUB_OFFLINE"]);
    assert_says(run(&format!("{REPO}@v2"), &offline), &["tiny-model@v2", "HF_HUB_OFFLINE"]);
    std::fs::remove_file(folder.join(SHARD_2)).expect("a shard to take away");
    assert_says(run(REPO, &offline), &[REPO, SHARD_2, "HF_HUB_OFFLINE"]);
    assert!(hub.take_requests().is_empty(), "offline is not offline");
}

#[test]
fn without_network_a_cached_repository_still_loads() {
    let (hub, home) = (sharded(), home());
    let folder = run(REPO, &settings(&hub.endpoint(), home.path(), &[])).expect("a download");
    // Port 9 (discard) has no listener on any machine that runs tests.
    let unplugged = settings("http://127.0.0.1:9", home.path(), &[]);
    assert_eq!(run(REPO, &unplugged), Ok(folder.clone()));
    assert_says(
        run("owner/another", &unplugged),
        &["owner/another", "http://127.0.0.1:9", "network"],
    );
    hub.fail("/api/", Fault::Status(503, ""), ALWAYS);
    assert_eq!(run(REPO, &settings(&hub.endpoint(), home.path(), &[])), Ok(folder));
}

#[test]
fn a_broken_download_keeps_what_arrived_and_goes_on_there() {
    let (hub, home) = (sharded(), home());
    let settings = settings(&hub.endpoint(), home.path(), &[]);
    hub.fail(&format!("/store/{COMMIT}/{SHARD_2}"), Fault::DropAfter(10_000), ALWAYS);
    assert_says(
        run(REPO, &settings),
        &[REPO, SHARD_2, "of 200000 bytes", "run the same command again"],
    );
    assert!(
        !home.path().join("hub/models--owner--tiny-model/refs/main").exists(),
        "the branch points to an unfinished snapshot"
    );
    let kept = hub
        .take_requests()
        .iter()
        .filter(|request| request.path.contains("/store/") && request.path.ends_with(SHARD_2))
        .count()
        * 10_000;
    hub.heal();
    let folder = run(REPO, &settings).expect("the second run");
    let requests = hub.take_requests();
    assert_eq!(fetched(&requests), [SHARD_2], "only what is missing");
    let from = requests
        .iter()
        .find(|request| request.path.contains("/store/"))
        .and_then(|request| request.from);
    assert_eq!(from, Some(kept), "goes on where the parts end");
    assert_weights(&folder, SHARD_1, 1, 300_000);
    assert_weights(&folder, SHARD_2, 2, 200_000);
}

#[test]
fn one_lost_connection_is_healed_within_the_run() {
    let (hub, home) = (single(100_000), home());
    hub.fail("/store/", Fault::DropAfter(40_000), 1);
    let folder = run(REPO, &settings(&hub.endpoint(), home.path(), &[])).expect("a download");
    assert_weights(&folder, "model.safetensors", 1, 100_000);
}

#[test]
fn a_server_without_ranges_does_not_spoil_the_file() {
    let (hub, home) = (single(100_000), home());
    hub.fail("/store/", Fault::DropAfter(40_000), 1);
    hub.fail("/store/", Fault::IgnoreRange, ALWAYS);
    let folder = run(REPO, &settings(&hub.endpoint(), home.path(), &[])).expect("a download");
    assert_weights(&folder, "model.safetensors", 1, 100_000);
}

#[test]
fn a_part_that_is_whole_or_too_long_is_no_dead_end() {
    for extra in [0_usize, 7] {
        let (hub, home) = (single(50_000), home());
        let settings = settings(&hub.endpoint(), home.path(), &[]);
        hub.fail("/store/", Fault::DropAfter(10), ALWAYS);
        run(REPO, &settings).expect_err("a broken download");
        hub.heal();
        let part = part_in(home.path());
        let mut bytes = weights(1, 50_000);
        bytes.resize(50_000 + extra, 0);
        std::fs::write(part, bytes).expect("a longer part");
        let folder = run(REPO, &settings).expect("the second run");
        assert_weights(&folder, "model.safetensors", 1, 50_000);
    }
}

#[test]
fn a_file_of_the_wrong_size_is_never_taken_for_whole() {
    let (hub, home) = (single(50_000), home());
    let settings = settings(&hub.endpoint(), home.path(), &[]);
    hub.fail("/store/", Fault::Body(weights(1, 49_000)), ALWAYS);
    assert_says(run(REPO, &settings), &[REPO, "model.safetensors", "of 50000 bytes"]);
    hub.heal();
    hub.fail("/store/", Fault::Body(weights(1, 60_000)), ALWAYS);
    assert_says(run(REPO, &settings), &[REPO, "model.safetensors", "more than the 50000 bytes"]);
    hub.heal();
    assert_weights(&run(REPO, &settings).expect("a download"), "model.safetensors", 1, 50_000);
}

#[test]
fn a_mirror_that_tells_names_only_works() {
    let (hub, home) = (single(50_000), home());
    hub.describe_names_only();
    let settings = settings(&hub.endpoint(), home.path(), &[]);
    let folder = run(REPO, &settings).expect("a download");
    assert_weights(&folder, "model.safetensors", 1, 50_000);
    hub.take_requests();
    assert_eq!(run(REPO, &settings), Ok(folder));
    assert_eq!(hub.take_requests().len(), 1, "whole files are not fetched again");
}

#[test]
fn a_revision_is_fetched_as_its_commit() {
    let (hub, home) = (single(1000), home());
    hub.add_revision("refs/pr/1");
    let settings = settings(&hub.endpoint(), home.path(), &[]);
    let folder = run("owner/tiny-model@refs/pr/1", &settings).expect("a download");
    assert!(folder.ends_with(COMMIT), "{}", folder.display());
    let requests = hub.take_requests();
    assert!(requests[0].path.contains("/revision/refs%2Fpr%2F1"), "{requests:?}");
    assert!(
        requests[1..].iter().all(|request| request.path.contains(COMMIT)),
        "a branch could move meanwhile: {requests:?}"
    );
    assert_says(run("owner/tiny-model@v9", &settings), &["owner/tiny-model", "no revision v9"]);
}

#[test]
fn refusals_say_what_to_do() {
    let (hub, home) = (single(1000), home());
    let open = settings(&hub.endpoint(), home.path(), &[]);
    assert_says(run("owner/missing", &open), &["owner/missing", "no repository", "404"]);
    hub.fail("/api/", Fault::Status(401, "RepoNotFound"), 1);
    assert_says(run(REPO, &open), &[REPO, "does not exist", "401", "set HF_TOKEN"]);
    // A gated repository is described to everybody; its files are not given out.
    hub.fail("/resolve/", Fault::Status(401, "GatedRepo"), 1);
    assert_says(run(REPO, &open), &[REPO, "gated", "accept its terms", "set HF_TOKEN"]);
    hub.fail("/resolve/", Fault::Status(403, ""), 1);
    assert_says(run(REPO, &open), &[REPO, "403", "HF_TOKEN"]);
    hub.fail("/api/", Fault::Status(429, ""), 1);
    assert_says(run(REPO, &open), &[REPO, "429", "wait"]);
    hub.fail("/resolve/", Fault::Status(500, ""), 1);
    assert_says(run(REPO, &open), &[REPO, "500", "config.json"]);
}

#[test]
fn the_token_goes_to_the_hub_and_to_no_other_host() {
    let (hub, home) = (single(1000), home());
    std::fs::write(home.path().join("token"), "hf_fromfile\n").expect("a token file");
    run(REPO, &settings(&hub.endpoint(), home.path(), &[])).expect("a download");
    let requests = hub.take_requests();
    let (store, own): (Vec<_>, Vec<_>) = requests.iter().partition(|request| request.host.starts_with("localhost"));
    assert!(
        !store.is_empty() && store.iter().all(|request| request.authorization.is_none()),
        "{store:?}"
    );
    assert!(
        own.iter()
            .all(|request| request.authorization.as_deref() == Some("Bearer hf_fromfile")),
        "{own:?}"
    );
    let by_variable = settings(&hub.endpoint(), home.path(), &[("HF_TOKEN", "hf_fromenv")]);
    run(REPO, &by_variable).expect("a second run");
    assert_eq!(hub.take_requests()[0].authorization.as_deref(), Some("Bearer hf_fromenv"));
}

#[test]
fn silence_ends_in_an_error() {
    let (hub, home) = (single(50_000), home());
    let settings = settings(&hub.endpoint(), home.path(), &[]);
    hub.fail("/api/", Fault::Silence, 1);
    assert_says(run(REPO, &settings), &[REPO, "cannot be reached"]);
    hub.fail("/store/", Fault::StallAfter(1000), ALWAYS);
    assert_says(run(REPO, &settings), &[REPO, "model.safetensors", "of 50000 bytes"]);
}

#[test]
fn an_index_cannot_name_a_file_elsewhere() {
    for (named, says) in [
        ("../../evil.safetensors", "plain"),
        ("/etc/evil.safetensors", "plain"),
        ("x.bin", "plain"),
        ("gone.safetensors", "does not have"),
    ] {
        let index = format!(r#"{{"weight_map":{{"a":"{named}"}}}}"#);
        let files: [(&str, &[u8]); 3] = [
            ("config.json", CONFIG),
            ("tokenizer.json", TOKENIZER),
            ("model.safetensors.index.json", index.as_bytes()),
        ];
        let (hub, home) = (FakeHub::start(REPO, &files), home());
        assert_says(run(REPO, &settings(&hub.endpoint(), home.path(), &[])), &[REPO, named, says]);
        assert!(
            hub.take_requests().iter().all(|request| !request.path.contains(named)),
            "it was asked for"
        );
    }
}

#[test]
fn a_repository_that_is_no_model_is_named_so() {
    type Files<'a> = &'a [(&'a str, &'a [u8])];
    let cases: [(Files, &str); 3] = [
        (&[("README.md", b"# data")], "no config.json"),
        (&[("config.json", CONFIG)], "no tokenizer.json"),
        (
            &[("config.json", CONFIG), ("tokenizer.json", TOKENIZER), ("pytorch_model.bin", b"x")],
            "neither model.safetensors",
        ),
    ];
    for (files, says) in cases {
        let (hub, home) = (FakeHub::start(REPO, files), home());
        assert_says(run(REPO, &settings(&hub.endpoint(), home.path(), &[])), &[REPO, says]);
    }
}

#[test]
fn nonsense_from_the_hub_is_an_error() {
    let (hub, home) = (single(1000), home());
    let settings = settings(&hub.endpoint(), home.path(), &[]);
    for body in ["<html>", "{}", r#"{"sha":"../../x","siblings":[]}"#, ""] {
        hub.fail("/api/", Fault::Body(body.into()), 1);
        assert_says(run(REPO, &settings), &[REPO]);
    }
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let (hub, home) = (single(1000), home());
    let in_the_way = home.path().join("file");
    std::fs::write(&in_the_way, "no folder").expect("a file");
    assert_says(run(REPO, &settings(&hub.endpoint(), &in_the_way, &[])), &[REPO, "HF_HOME", "file"]);
}

/// `/dev/full` takes no byte, like a full disk.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_called_that() {
    let (hub, home) = (single(50_000), home());
    let settings = settings(&hub.endpoint(), home.path(), &[]);
    hub.fail("/store/", Fault::DropAfter(10), ALWAYS);
    run(REPO, &settings).expect_err("a broken download");
    hub.heal();
    let part = part_in(home.path());
    std::fs::remove_file(&part).expect("the part to make room");
    std::os::unix::fs::symlink("/dev/full", &part).expect("a part on a full disk");
    assert_says(run(REPO, &settings), &[REPO, "the disk is full", "HF_HOME"]);
}

#[test]
fn a_file_that_another_program_downloads_is_left_alone() {
    let (hub, home) = (single(50_000), home());
    let settings = settings(&hub.endpoint(), home.path(), &[]);
    hub.fail("/store/", Fault::DropAfter(10), ALWAYS);
    run(REPO, &settings).expect_err("a broken download");
    hub.heal();
    let part = part_in(home.path());
    let held = std::fs::OpenOptions::new()
        .write(true)
        .open(part.with_extension("lock"))
        .expect("the lock");
    held.lock().expect("the lock for this test");
    assert_says(run(REPO, &settings), &[REPO, "another program", "model.safetensors"]);
    held.unlock().expect("the lock given back");
    run(REPO, &settings).expect("a download");
}

#[test]
fn what_is_on_disk_or_built_in_needs_no_hub() {
    let home = home();
    let nowhere = settings("http://127.0.0.1:9", home.path(), &[]);
    assert_eq!(resolve("demo", false).expect("the demo"), ModelSource::Demo);
    let folder = home.path().to_string_lossy().into_owned();
    assert_eq!(
        resolve(&folder, false).expect("the folder"),
        ModelSource::Folder(home.path().to_path_buf())
    );
    for (file, says) in [("model.safetensors", "give the folder"), ("model.gguf", "GGUF")] {
        let path = home.path().join(file);
        std::fs::write(&path, "x").expect("a file");
        assert_says(run(&path.to_string_lossy(), &nowhere), &[file, says]);
    }
    for missing in ["./gone", "../gone/", "/gone/away", "~/models/x", "a/b/c", "a\\b"] {
        assert_says(run(missing, &nowhere), &["no folder", missing]);
    }
    for neither in ["gone", "", "a b/c", "owner/na--me", "owner/name@", "\u{0}"] {
        assert_says(run(neither, &nowhere), &["repository id"]);
    }
}

/// The whole way through the binary: environment, download, and the repository's id as the model's name.
#[test]
fn the_binary_inspects_a_repository() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/checkpoints/tiny-dense");
    let read = |name: &str| std::fs::read(golden.join(name)).expect("a golden file");
    let (config, weights) = (read("config.json"), read("model.safetensors"));
    let hub = FakeHub::start(
        REPO,
        &[
            ("config.json", &config),
            ("tokenizer.json", TOKENIZER),
            ("model.safetensors", &weights),
        ],
    );
    let home = home();
    let inspect = |offline: &str| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_qwgpu"))
            .args(["inspect", REPO])
            .env("HF_HOME", home.path())
            .env("HF_ENDPOINT", hub.endpoint())
            .env("HF_HUB_OFFLINE", offline)
            .env("NO_PROXY", "127.0.0.1")
            .env_remove("HF_HUB_CACHE")
            .env_remove("HF_TOKEN")
            .output()
            .expect("the binary runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let online = inspect("0");
    assert!(online.contains(REPO) && online.contains("model.embed_tokens.weight"), "{online}");
    hub.take_requests();
    assert_eq!(inspect("1"), online, "from the cache");
    assert!(hub.take_requests().is_empty(), "offline means no request");
}

#[test]
fn the_environment_is_read_like_hugging_face_does() {
    let read = |vars: &[(&str, &str)]| {
        let vars: Vec<(String, String)> = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Settings::from_lookup(
            &move |name| vars.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()),
            false,
        )
    };
    let cache = |vars: &[(&str, &str)]| read(vars).expect("settings").cache;
    let root = home();
    let at = |name: &str| root.path().join(name).to_string_lossy().into_owned();
    assert_eq!(cache(&[("HF_HOME", &at("hf"))]), root.path().join("hf").join("hub"));
    assert_eq!(cache(&[("HF_HOME", &at("hf")), ("HF_HUB_CACHE", &at("c"))]), root.path().join("c"));
    assert_eq!(
        cache(&[("XDG_CACHE_HOME", &at("x"))]),
        root.path().join("x").join("huggingface").join("hub")
    );
    let plain = read(&[("HF_HOME", &at("hf")), ("HF_ENDPOINT", "  ")]).expect("settings");
    assert_eq!(
        (plain.endpoint.as_str(), plain.offline, plain.token),
        ("https://huggingface.co", false, None)
    );
    assert_eq!(
        read(&[("HF_HOME", "h"), ("HF_ENDPOINT", "https://mirror.example/hf/")])
            .expect("settings")
            .endpoint,
        "https://mirror.example/hf"
    );
    for (value, offline) in [("1", true), ("ON", true), ("True", true), ("0", false), ("", false), ("no", false)] {
        assert_eq!(
            read(&[("HF_HOME", "h"), ("HF_HUB_OFFLINE", value)]).expect("settings").offline,
            offline,
            "{value:?}"
        );
    }
    for (name, value) in [
        ("HF_ENDPOINT", "mirror"),
        ("HF_ENDPOINT", "https://"),
        ("HF_TOKEN", "a b"),
        ("HF_HUB_ETAG_TIMEOUT", "soon"),
        ("HF_HUB_DOWNLOAD_TIMEOUT", "-1"),
    ] {
        let err = read(&[("HF_HOME", "h"), (name, value)]).err().expect("a refusal").to_string();
        assert!(err.contains(name), "{err}");
    }
}
