//! `qwgpu test` as a user meets it: its reports, its exit codes, and that it finds a kernel that computes wrong.
//!
//! The adapter is the one that `QWGPU_TEST_ADAPTER` names, else the best. Nearly everything is asked of one small kernel.

#[path = "support/binary.rs"]
mod binary;

use std::path::Path;
use std::process::Command;

use binary::{Outcome, command, finish, folder, qwgpu, text};
use serde_json::Value;

#[cfg(unix)]
use binary::interrupt;

const PENALTY: [&str; 4] = ["--kernel", "penalty", "--tier", "quick"];

/// `qwgpu test` on one adapter.
fn test(args: &[&str]) -> Command {
    let adapter = std::env::var("QWGPU_TEST_ADAPTER").ok().filter(|name| !name.is_empty());
    let adapter = adapter.unwrap_or_else(|| "0".into());
    command(&[&["test", "--adapter", &adapter], args].concat())
}

fn run(args: &[&str]) -> Outcome {
    finish(test(args).spawn().expect("the binary starts"))
}

/// The same of the small kernel.
fn penalty(args: &[&str]) -> Outcome {
    run(&[&PENALTY, args].concat())
}

/// Ids of the cases that would run.
fn listed(args: &[&str]) -> Vec<String> {
    let list = penalty(&[&["--list"], args].concat()).ok().stdout;
    let lines = list.lines().skip(1);
    lines.map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect()
}

fn count(json: &Value, field: &str) -> usize {
    json[field].as_u64().unwrap_or_else(|| panic!("no count {field}")) as usize
}

/// A copy of the shaders in which the penalty is wrong for negative logits.
fn faulty_shaders() -> tempfile::TempDir {
    let copy = folder();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    std::fs::create_dir(copy.path().join("shared")).expect("a folder");
    for part in ["", "shared"] {
        for entry in std::fs::read_dir(source.join(part)).expect("the shaders").flatten() {
            if entry.path().extension().is_some_and(|ending| ending == "wgsl") {
                let to = copy.path().join(part).join(entry.file_name());
                std::fs::copy(entry.path(), to).expect("a copy");
            }
        }
    }
    let file = copy.path().join("penalty.wgsl");
    let right = std::fs::read_to_string(&file).expect("the kernel");
    let wrong = right.replace("x * params.penalty", "x + params.penalty");
    assert_ne!(right, wrong);
    std::fs::write(file, wrong).expect("a file");
    copy
}

#[test]
fn json_holds_every_case_and_adds_up() {
    let json = penalty(&["--format", "json"]).json();
    assert_eq!((&json["version"], &json["verdict"]), (&Value::from(1), &Value::from("passed")));
    assert_eq!(json["interrupted"], false);
    for field in ["adapter", "driver", "qwgpu", "date"] {
        assert!(json[field].as_str().is_some_and(|text| !text.is_empty()), "{field}");
    }
    let cases = json["cases"].as_array().expect("a list");
    let sum: usize = ["passed", "failed", "skipped"].map(|field| count(&json, field)).iter().sum();
    assert!(count(&json, "passed") > 0);
    assert_eq!((sum, count(&json["adapters"][0], "planned")), (cases.len(), cases.len()));
    let ids: Vec<&str> = cases.iter().filter_map(|case| case["id"].as_str()).collect();
    assert_eq!(ids, listed(&[]));
    for case in cases {
        assert_eq!(
            (&case["kernel"], &case["status"]),
            (&Value::from("penalty"), &Value::from("passed"))
        );
        assert!(count(case, "n_values") > 0 && case["worst"].as_f64().is_some_and(|worst| worst <= 1.0));
        for field in ["adapter", "mode", "name", "seconds", "max_abs", "nmse", "reason", "mismatches"] {
            assert!(case.get(field).is_some(), "{field}");
        }
    }
}

#[test]
fn wrong_command_lines_run_nothing() {
    penalty(&["--kernel", "penality"]).fails(2, &["penality", "penalty", "matmul"]);
    penalty(&["--case", "("]).fails(2, &["(", "unclosed group"]);
    for shard in ["0/2", "3/2", "2", "a/b"] {
        penalty(&["--shard", shard]).fails(2, &[shard, "1/4"]);
    }
    run(&["--repro", "0000000000"]).fails(2, &["0000000000", "--list"]);
    penalty(&["-o", "report.txt"]).fails(2, &["report.txt", ".html"]);
    penalty(&["-o", "no/such/folder/report.json"]).fails(1, &["cannot write no/such/folder/report.json"]);
    penalty(&["--case", "nothing is called this"]).fails(1, &["nothing would run"]);
    qwgpu(&["test", "--adapter", "no such thing"]).fails(1, &["no such thing", "0 "]);
}

#[test]
fn shards_share_the_cases() {
    let mut parts = [listed(&["--shard", "1/2"]), listed(&["--shard", "2/2"])].concat();
    let mut all = listed(&[]);
    parts.sort();
    all.sort();
    assert_eq!(parts, all);
}

#[test]
fn files_are_written_in_the_form_of_their_ending() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("a.json"), "what was there before, and is longer than nothing").expect("a file");
    let names = ["a.json", "a.xml", "a.md", "a.html"].map(path);
    let options: Vec<&str> = names.iter().flat_map(|name| ["-o", text(name)]).collect();
    let summary = penalty(&options).ok().stdout;
    assert!(summary.contains("PASSED") && !summary.contains('\u{1b}'), "{summary}");
    let [json, xml, md, html] = names.map(|name| std::fs::read_to_string(name).expect("a report"));
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(xml.matches("<testcase ").count(), count(&json, "passed"));
    assert!(md.contains("| penalty |"), "{md}");
    for outside in ["http:", "https:", "src=", "href=\"h", "<script", "@import", "url("] {
        assert!(!html.contains(outside), "the page needs {outside}");
    }
    assert!(html.contains("<svg") && html.trim_end().ends_with("</html>"));
}

#[test]
fn a_wrong_kernel_is_found_and_can_be_looked_at() {
    let shaders = faulty_shaders();
    let faulty = |args: &[&str]| {
        let child = test(args).env("QWGPU_SHADERS", shaders.path()).spawn();
        finish(child.expect("the binary starts"))
    };
    let outcome = faulty(&[&PENALTY[..], &["--kernel", "silu_mul"]].concat());
    assert_eq!(outcome.status.code(), Some(1), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("FAIL") && outcome.stderr.contains("cases failed"),
        "{}",
        outcome.stderr
    );
    let failures: Vec<&str> = outcome.stdout.lines().filter(|line| line.starts_with("FAIL ")).collect();
    assert!(
        !failures.is_empty() && failures.iter().all(|line| line.contains("penalty")),
        "{failures:?}"
    );
    let (_, after) = outcome.stdout.split_once("--repro ").expect("how to see it again");
    let id = after.lines().next().expect("an id");

    let again = faulty(&["--repro", id]);
    assert_eq!(again.status.code(), Some(1));
    for word in [id, "penalty", "failed", "reason", "expected", "logits["] {
        assert!(again.stdout.contains(word), "{word}: {}", again.stdout);
    }
    let right = run(&["--repro", id]).ok().stdout;
    assert!(right.contains(id) && right.contains("passed"), "{right}");

    let first = faulty(&[&PENALTY[..], &["--fail-fast", "--format", "json"]].concat());
    assert_eq!(first.status.code(), Some(1));
    let json: Value = serde_json::from_str(&first.stdout).expect("JSON");
    assert_eq!((count(&json, "failed"), &json["stopped"]), (1, &Value::from(true)));
}

#[cfg(unix)]
#[test]
fn ctrl_c_leaves_a_report_of_what_has_run() {
    use std::io::Read;

    let mut child = test(&["--tier", "quick", "--format", "json"]).spawn().expect("the binary starts");
    let mut stderr = child.stderr.take().expect("a pipe");
    // From the first line on the run can be stopped.
    let mut byte = [0];
    while byte != *b"\n" {
        stderr.read_exact(&mut byte).expect("a line on standard error");
    }
    interrupt(&child);
    child.stderr = Some(stderr);
    let outcome = finish(child);
    assert_eq!(outcome.status.code(), Some(130), "{}", outcome.stderr);
    let json: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert_eq!(
        (&json["verdict"], &json["interrupted"]),
        (&Value::from("interrupted"), &Value::from(true))
    );
    assert!(json["cases"].as_array().expect("a list").len() < count(&json["adapters"][0], "planned"));
}
