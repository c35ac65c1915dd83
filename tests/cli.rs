//! The binary as a user meets it: what it prints where, what it says when something is wrong, and its exit codes.
//!
//! Every run has a time limit, and none may panic. What the model computes is checked elsewhere; here the demo model and a tiny
//! checkpoint of tests/golden only have to run. All need an adapter, a software one will do.

#[path = "support/binary.rs"]
mod binary;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use binary::{command, finish, folder, qwgpu, text};
use safetensors::SafeTensors;
use serde_json::Value;

#[cfg(unix)]
use binary::interrupt;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/checkpoints").join(name)
}

fn ids(value: &Value) -> Vec<u64> {
    value
        .as_array()
        .expect("a list")
        .iter()
        .map(|id| id.as_u64().expect("an id"))
        .collect()
}

const STORY: &str = "Tell me a story about a fox.";

#[test]
fn the_same_seed_gives_the_same_text_in_every_form() {
    let args = ["run", STORY, "--seed", "7", "--temp", "0.9", "-n", "24"];
    let json = qwgpu(&[&args[..], &["--json"]].concat()).json();
    let again = qwgpu(&[&args[..], &["--json"]].concat()).json();
    assert_eq!(json["version"], 1);
    assert_eq!(json["model"], "demo");
    assert_eq!(json["seed"], 7);
    assert!(json["adapter"].as_str().is_some_and(|name| !name.is_empty()));
    assert!(json["timings"]["prefill_ms"].as_f64().is_some_and(|ms| ms > 0.0));
    assert_eq!(json["ids"], again["ids"]);
    let n_ids = ids(&json["ids"]).len();
    assert!(match json["stop_reason"].as_str() {
        Some("length") => n_ids == 24,
        Some("stop") => n_ids < 24,
        _ => false,
    });
    let expected = json["text"].as_str().expect("text").to_owned() + "\n";
    assert!(expected.len() > 20, "{expected}");
    assert_eq!(qwgpu(&args).ok().stdout, expected, "streamed");
    let other = qwgpu(&["run", STORY, "--seed", "8", "--temp", "0.9", "-n", "24", "--json"]).json();
    assert_ne!(json["ids"], other["ids"], "another seed");

    let mut piped = command(&["run", "--seed", "7", "--temp", "0.9", "-n", "24"]);
    let mut child = piped.stdin(Stdio::piped()).spawn().expect("the binary starts");
    writeln!(child.stdin.take().expect("a pipe"), "{STORY}").expect("room in the pipe");
    assert_eq!(finish(child).ok().stdout, expected, "prompt from a pipe");

    let prompt: Vec<String> = ids(&json["prompt_ids"]).iter().map(ToString::to_string).collect();
    let from_ids = qwgpu(&["run", "--ids", &prompt.join(","), "--seed", "7", "--temp", "0.9", "-n", "24"]).ok();
    assert_eq!(from_ids.stdout, expected, "prompt as ids");
}

#[test]
fn greedy_needs_no_seed_and_stats_go_to_stderr() {
    let args = ["run", STORY, "--greedy", "-n", "12"];
    let plain = qwgpu(&args).ok();
    let with_stats = qwgpu(&[&args[..], &["--stats"]].concat()).ok();
    assert_eq!(plain.stdout, with_stats.stdout);
    for word in ["prefill", "decode", "tokens/s", "first token", "load", "memory"] {
        assert!(with_stats.stderr.contains(word), "{word}: {}", with_stats.stderr);
    }
    // Which adapter runs is always said.
    let json = qwgpu(&[&args[..], &["--json"]].concat()).json();
    assert!(plain.stderr.contains(json["adapter"].as_str().expect("a name")), "{}", plain.stderr);
}

#[test]
fn options_reach_the_model() {
    let chat = qwgpu(&["run", "Hello", "--greedy", "-n", "1", "--json"]).json();
    let raw = qwgpu(&["run", "Hello", "--raw", "--greedy", "-n", "1", "--json"]).json();
    let system = qwgpu(&["run", "Hello", "--system", "Be brief.", "--greedy", "-n", "1", "--json"]).json();
    let length = |json: &Value| ids(&json["prompt_ids"]).len();
    assert!(length(&raw) < length(&chat) && length(&chat) < length(&system));
    let none = qwgpu(&["run", "Hello", "-n", "0", "--json"]).json();
    assert_eq!((ids(&none["ids"]).len(), none["stop_reason"].as_str()), (0, Some("length")));
    let full = qwgpu(&["run", "Once upon a time", "--raw", "--greedy", "--ctx", "12", "-n", "64", "--json"]).json();
    assert_eq!(full["stop_reason"], "context");
    let storage = qwgpu(&["run", "Hi", "-n", "2", "--stats", "--dtype", "f32", "--kv-dtype", "f32", "-b", "3"]).ok();
    assert!(storage.stderr.contains("weights f32, kv cache f32"), "{}", storage.stderr);
}

#[test]
fn wrong_command_lines_are_usage_errors() {
    for args in [
        &["run", "--ids", "1,x"][..],
        &["run", "--ids", "-1"],
        &["run", "--ids", "4294967296"],
        &["run", "--ids", "1", "and text"],
        &["run", "--greedy", "--temp", "1", "hi"],
        &["run", "--temp", "-1", "hi"],
        &["run", "--temp", "nan", "hi"],
        &["run", "--top-p", "1.5", "hi"],
        &["run", "--min-p", "-0.1", "hi"],
        &["run", "--repeat-penalty", "0", "hi"],
        &["run", "--top-k", "-1", "hi"],
        &["run", "--ctx", "0", "hi"],
        &["run", "--ctx", "99999999999", "hi"],
        &["run", "-b", "0", "hi"],
        &["run", "--dtype", "q3", "hi"],
        &["run", "-m", "", "hi"],
        &["perplexity", "--window", "1", "Cargo.toml"],
        &["perplexity", "--window", "99999", "Cargo.toml"],
        &["bench", "-r", "0"],
        &["bench", "-p", "99999999999"],
        &["bench", "--shape", "9b"],
        &["bench", "--shape", "0.5b", "--layers", "0"],
        &["bench", "--shape", "0.5b", "-m", "demo"],
        &["bench", "kernels", "--kernel", "frobnicate"],
        &["bench", "kernels", "-r", "0"],
        &["bench", "-p", "8", "kernels"],
        &["bench", "--compare", "old.json"],
        &["bench", "--compare", "old.json", "new.json", "-p", "8"],
        &["inspect", "--ctx", "0"],
        &["logits", "--ids", "1"],
        &["frobnicate"],
    ] {
        let outcome = qwgpu(args);
        assert_eq!(outcome.status.code(), Some(2), "{args:?}: {}", outcome.stderr);
        assert!(
            outcome.stderr.contains("error: ") && outcome.stdout.is_empty(),
            "{args:?}: {}",
            outcome.stderr
        );
    }
}

#[test]
fn help_teaches_by_example() {
    for command in ["run", "devices", "inspect", "logits", "perplexity", "bench", "test"] {
        let help = qwgpu(&[command, "--help"]).ok().stdout;
        assert!(help.contains("Usage: qwgpu"), "{help}");
        assert!(command == "devices" || help.contains("Example"), "{help}");
    }
    assert!(
        qwgpu(&["--help"])
            .ok()
            .stdout
            .contains("qwgpu run \"Tell me a story about a fox.\"")
    );
}

#[test]
fn prompts_that_cannot_be_answered() {
    qwgpu(&["run", ""]).fails(1, &["prompt is empty"]);
    qwgpu(&["run"]).fails(1, &["prompt is empty"]);
    qwgpu(&["run", STORY, "--ctx", "4"]).fails(1, &["context of 4", "--ctx"]);
    qwgpu(&["run", "--ids", "1,2,999999"]).fails(1, &["999999", "4096"]);
    let mut child = command(&["run"]).stdin(Stdio::piped()).spawn().expect("the binary starts");
    child
        .stdin
        .take()
        .expect("a pipe")
        .write_all(b"\xff\xfe")
        .expect("room in the pipe");
    finish(child).fails(1, &["UTF-8"]);
}

#[test]
fn adapters_that_are_not_there() {
    qwgpu(&["run", "--adapter", "no such thing", "hi"]).fails(1, &["no such thing", "0 "]);
    qwgpu(&["run", "--adapter", "99", "hi"]).fails(1, &["99"]);
    for args in [&["run", "hi"][..], &["devices"]] {
        let child = command(args).env("WGPU_BACKEND", "noop").spawn().expect("the binary starts");
        finish(child).fails(1, &["no Vulkan", "install"]);
    }
    let inspect = command(&["inspect"])
        .env("WGPU_BACKEND", "noop")
        .spawn()
        .expect("the binary starts");
    assert!(finish(inspect).ok().stdout.contains("No adapter"), "inspect needs none");
}

#[test]
fn a_plan_that_does_not_fit_is_refused_with_its_numbers() {
    let child = command(&["run", "hi"])
        .env("QWGPU_MEMORY_MIB", "1")
        .spawn()
        .expect("the binary starts");
    finish(child).fails(1, &["MiB", "QWGPU_MEMORY_MIB is 1 MiB"]);
}

#[test]
fn models_that_are_none() {
    let folder = folder();
    let file = folder.path().join("model.safetensors");
    std::fs::write(&file, "x").expect("a file");
    for command in ["run", "inspect"] {
        let with = |model: &str| {
            qwgpu(&if command == "run" {
                vec!["run", "-m", model, "hi"]
            } else {
                vec!["inspect", model]
            })
        };
        with("./no/such/folder").fails(1, &["no folder ./no/such/folder"]);
        with(text(&file)).fails(1, &["is a file"]);
        with(text(folder.path())).fails(1, &["config.json"]);
    }
}

#[test]
fn a_truncated_checkpoint_is_named() {
    let folder = folder();
    let source = golden("tiny-dense");
    for name in ["config.json", "generation_config.json", "model.safetensors"] {
        let mut bytes = std::fs::read(source.join(name)).expect("a golden file");
        if name == "model.safetensors" {
            bytes.truncate(bytes.len() / 2);
        }
        std::fs::write(folder.path().join(name), bytes).expect("a file");
    }
    qwgpu(&["inspect", text(folder.path())]).fails(1, &["model.safetensors"]);
    qwgpu(&["run", "-m", text(folder.path()), "--ids", "1"]).fails(1, &["model.safetensors"]);
}

#[test]
fn a_model_without_tokenizer_takes_ids_only() {
    let model = golden("tiny-dense");
    qwgpu(&["run", "-m", text(&model), "hi"]).fails(1, &["tokenizer.json", "--ids"]);
    let out = qwgpu(&["run", "-m", text(&model), "--ids", "1,2,3", "--greedy", "-n", "4"])
        .ok()
        .stdout;
    let json = qwgpu(&["run", "-m", text(&model), "--ids", "1,2,3", "--greedy", "-n", "4", "--json"]).json();
    let listed: Vec<String> = ids(&json["ids"]).iter().map(ToString::to_string).collect();
    assert_eq!(out.trim(), listed.join(","));
    assert_eq!(json["text"], Value::Null);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = command(&["run", STORY, "--greedy", "-n", "200"])
        .spawn()
        .expect("the binary starts");
    let mut stdout = child.stdout.take().expect("a pipe");
    stdout.read_exact(&mut [0; 10]).expect("ten bytes of a story");
    drop(stdout);
    let outcome = finish(child).ok();
    assert!(!outcome.stderr.contains("error"), "{}", outcome.stderr);
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_an_answer() {
    let mut child = command(&["run", STORY, "--greedy", "--raw", "-n", "2000"])
        .spawn()
        .expect("the binary starts");
    let mut stdout = child.stdout.take().expect("a pipe");
    stdout.read_exact(&mut [0; 10]).expect("ten bytes of a story");
    interrupt(&child);
    child.stdout = Some(stdout);
    assert_eq!(finish(child).status.code(), Some(130));
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_load() {
    // The adapter is named just before the load, which takes a while even where the model is tiny: kernels are compiled, and none comes
    // from a cache of the driver's or our own.
    let mut child = command(&["run", STORY, "--raw", "-n", "2000"])
        .env("MESA_SHADER_CACHE_DISABLE", "true")
        .env("QWGPU_PIPELINE_CACHE", "0")
        .spawn()
        .expect("the binary starts");
    let mut stderr = child.stderr.take().expect("a pipe");
    let mut byte = [0];
    while byte != *b"\n" {
        stderr.read_exact(&mut byte).expect("a line on standard error");
    }
    interrupt(&child);
    child.stderr = Some(stderr);
    let outcome = finish(child);
    assert_eq!(outcome.status.code(), Some(130), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("interrupted while"), "{}", outcome.stderr);
}

#[test]
fn inspect_and_devices_describe() {
    let plain = qwgpu(&["inspect", "demo"]).ok().stdout;
    for word in ["6,955,264", "model.embed_tokens.weight", "4096 x 256", "Memory"] {
        assert!(plain.contains(word), "{word}: {plain}");
    }
    let json = qwgpu(&["inspect", "-m", "demo", "--json"]).json();
    assert_eq!(
        (&json["version"], &json["n_parameters"]),
        (&Value::from(1), &Value::from(6_955_264))
    );
    assert_eq!(json["tensors"].as_array().map(Vec::len), Some(98));
    let devices = qwgpu(&["devices", "--json"]).json();
    assert_eq!(devices["version"], 1);
    let adapters = devices["adapters"].as_array().expect("a list");
    assert!(!adapters.is_empty());
    assert!(adapters[0]["max_binding"].as_u64().is_some_and(|bytes| bytes > 0));
    assert!(
        qwgpu(&["devices"])
            .ok()
            .stdout
            .contains(adapters[0]["name"].as_str().expect("a name"))
    );
}

#[test]
fn inspect_counts_the_parameters_that_a_token_meets() {
    // 2 layers of 16 experts, 4 for a token; 494,208 and 199,296 parameters a layer, and 65,664 of embedding and last norm
    let (all, active) = (2 * 494_208 + 65_664, 2 * 199_296 + 65_664);
    let model = golden("tiny-moe-norm");
    let plain = qwgpu(&["inspect", text(&model)]).ok().stdout;
    for words in [
        "1,054,080, 464,256 of them active",
        "Qwen2MoeForCausalLM",
        "16 of 64 in 2 of 2 layers, 4 for a token, and a shared one of 128",
        "model.layers.1.mlp.experts.15.down_proj.weight",
    ] {
        assert!(plain.contains(words), "{words}: {plain}");
    }
    let json = qwgpu(&["inspect", text(&model), "--json"]).json();
    assert_eq!(
        (&json["n_parameters"], &json["n_active_parameters"]),
        (&Value::from(all), &Value::from(active))
    );
    assert_eq!(json["bytes"], 2 * all, "the file's own count");
    assert_eq!(json["config"]["experts"]["n_experts_per_token"], 4);
    let dense = qwgpu(&["inspect", "demo", "--json"]).json();
    assert_eq!(dense["n_active_parameters"], dense["n_parameters"]);
    assert_eq!(dense["config"]["experts"], Value::Null);
}

#[test]
fn expert_stats_are_a_line_for_each_layer() {
    let model = golden("tiny-moe-norm");
    let args = ["run", "-m", text(&model), "--ids", "1,2,3,4,5", "--greedy", "-n", "6"];
    let plain = qwgpu(&args).ok();
    let shown = qwgpu(&[&args[..], &["--expert-stats"]].concat()).ok();
    assert_eq!(shown.stdout, plain.stdout, "statistics go to standard error");
    let lines: Vec<Vec<&str>> = shown.stderr.lines().map(|line| line.split_whitespace().collect()).collect();
    let head = lines.iter().position(|line| line.starts_with(&["layer", "choices", "busiest"]));
    let layers = &lines[head.expect("a heading") + 1..];
    assert_eq!(layers.len(), 2, "{}", shown.stderr);
    let json = qwgpu(&[&args[..], &["--expert-stats", "--json"]].concat()).json();
    let usage = json["expert_usage"].as_array().expect("a list");
    assert_eq!(usage.len(), 2);
    for (i, (line, usage)) in layers.iter().zip(usage).enumerate() {
        let counts = ids(&usage[1]);
        assert_eq!((usage[0].as_u64(), counts.len()), (Some(i as u64), 16));
        // five tokens of the prompt and five of the six that were generated, four experts each; generating runs at most a step ahead
        let total: u64 = counts.iter().sum();
        assert!(total == 4 * 10 || total == 4 * 11, "{counts:?}");
        let largest = counts.iter().max().expect("a count");
        let busiest = counts.iter().position(|count| count == largest).expect("an expert");
        assert_eq!(
            line[..3],
            [i.to_string(), total.to_string(), busiest.to_string()],
            "{}",
            shown.stderr
        );
    }
    let dense = qwgpu(&["run", "Hello", "--greedy", "-n", "1", "--expert-stats"]).ok();
    assert!(dense.stderr.contains("the model is dense"), "{}", dense.stderr);
    assert_eq!(qwgpu(&[&args[..], &["--json"]].concat()).json()["expert_usage"], Value::Null);
    // at a terminal that is a wrong command line (cli/run.rs); here standard input is empty
    qwgpu(&["run", "--expert-stats"]).fails(1, &["prompt is empty"]);
}

#[test]
fn logits_of_all_positions_agree_with_the_greedy_choice() {
    let folder = folder();
    let file = folder.path().join("logits.safetensors");
    let model = golden("tiny-dense-hd128");
    let args = ["-m", text(&model), "--ids", "5,77,301,12,9", "--kv-dtype", "f32"];
    qwgpu(&[&["logits", "-o", text(&file)], &args[..]].concat()).ok();
    let bytes = std::fs::read(&file).expect("the file");
    let tensors = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let logits = tensors.tensor("logits").expect("the tensor");
    assert_eq!((logits.dtype(), logits.shape()), (safetensors::Dtype::F32, &[5, 516][..]));
    let values: Vec<f32> = logits
        .data()
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    assert!(values.iter().all(|value| value.is_finite()));
    let last = &values[4 * 516..];
    let best = (0..516).max_by(|&a, &b| last[a].total_cmp(&last[b])).expect("an id");
    let json = qwgpu(&[&["run", "--greedy", "-n", "1", "--json"], &args[..]].concat()).json();
    assert_eq!(ids(&json["ids"]), [best as u64]);
    qwgpu(&["logits", "--ids", "5000", "-o", text(&file)]).fails(1, &["5000"]);
    assert_eq!(std::fs::read(&file).expect("the file"), bytes, "a failed run leaves the old file");
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 1, "and nothing else");
}

#[test]
fn perplexity_of_windows() {
    let folder = folder();
    let file = folder.path().join("story.txt");
    std::fs::write(
        &file,
        "Deep in the forest, there lived a cheerful fox named Nora. One afternoon, Nora went to the market.",
    )
    .expect("a file");
    let run = |window: &str| qwgpu(&["perplexity", text(&file), "--window", window, "--json"]).json();
    let (whole, halves) = (run("512"), run("8"));
    let n_tokens = whole["n_tokens"].as_u64().expect("a count");
    assert_eq!(whole["n_scored"].as_u64(), Some(n_tokens - 1));
    assert_eq!(halves["n_scored"].as_u64(), Some(n_tokens - n_tokens.div_ceil(8)));
    let nll = |json: &Value| json["mean_nll"].as_f64().expect("a number");
    // The demo model knows such sentences: far below a blind guess, ln 4096 = 8.3, and worse off with less to go by.
    assert!(nll(&whole) > 0.1 && nll(&whole) < 4.0, "{whole}");
    assert!(nll(&halves) > nll(&whole), "{halves}");
    assert!((whole["ppl"].as_f64().expect("a number") - nll(&whole).exp()).abs() < 1e-9);
    std::fs::write(&file, "").expect("a file");
    qwgpu(&["perplexity", text(&file)]).fails(1, &["story.txt", "0 tokens"]);
    qwgpu(&["perplexity", "no-such-file.txt"]).fails(1, &["no-such-file.txt"]);
}

#[test]
fn bench_prints_every_format() {
    let shape = [
        "bench", "--shape", "0.5b", "--layers", "1", "-p", "8", "-n", "4", "-r", "1", "-o", "json",
    ];
    let json = qwgpu(&shape).json();
    let results = json["results"].as_array().expect("a list");
    let names: Vec<&str> = results.iter().filter_map(|row| row["test"].as_str()).collect();
    assert_eq!(names, ["pp8", "tg4"]);
    assert!(results.iter().all(|row| row["avg_ts"].as_f64().is_some_and(|speed| speed > 0.0)));
    let demo = |format: &str| {
        qwgpu(&["bench", "-p", "8,0", "-n", "3", "-d", "0,16", "-r", "2", "-o", format])
            .ok()
            .stdout
    };
    let names = ["pp8", "tg3", "pp8 @ d16", "tg3 @ d16"];
    for (format, n_lines) in [("md", 8), ("csv", 5), ("jsonl", 4)] {
        let out = demo(format);
        assert_eq!(out.lines().count(), n_lines, "{out}");
        assert!(names.iter().all(|name| out.contains(name)), "{out}");
    }
    qwgpu(&["bench", "-p", "0", "-n", "0"]).fails(1, &["nothing to measure"]);
    qwgpu(&["bench", "-d", "2048", "-p", "1", "-n", "0"]).fails(1, &["context of 2048"]);
}

#[test]
fn bench_kernels_measures_against_ceilings() {
    let page = folder();
    let path = page.path().join("roofline.html");
    let html = path.to_str().expect("a path of letters");
    let json = qwgpu(&["bench", "kernels", "--kernel", "penalty", "-r", "3", "-o", "json", "--html", html]).json();
    assert_eq!((&json["version"], &json["kind"]), (&Value::from(1), &Value::from("kernels")));
    let ceilings = json["ceilings"].as_array().expect("a list");
    let names: Vec<&str> = ceilings.iter().filter_map(|ceiling| ceiling["name"].as_str()).collect();
    assert_eq!(names, ["read", "f32", "f16", "dot4I8Packed", "coop f16 to f32"]);
    for ceiling in ceilings {
        let value = ceiling["value"].as_f64();
        assert!(
            value.is_some_and(|value| value > 0.0) || ceiling["skipped"].is_string(),
            "{ceiling}"
        );
    }
    let [row] = json["results"].as_array().expect("a list").as_slice() else {
        panic!("one case: {json}")
    };
    assert_eq!(
        (&row["kernel"], &row["bytes"]),
        (&Value::from("penalty"), &Value::from(4 * 151_936 / 32 + 8 * 1024))
    );
    for field in ["us", "gb_s", "tflop_s", "percent", "dispatches", "copies"] {
        assert!(row[field].as_f64().is_some_and(|value| value > 0.0), "{field} in {row}");
    }
    // a thousandth of the work of anything that memory limits; a wrong count of bytes would show
    assert!(row["percent"].as_f64().is_some_and(|percent| percent < 102.0), "{row}");
    assert_eq!(row["samples_ns"].as_array().map(Vec::len), Some(3));
    assert!(std::fs::read_to_string(&path).expect("the page").contains("</svg>"));
    let old = page.path().join("old.json");
    std::fs::write(&old, json.to_string()).expect("room for a file");
    let old = old.to_str().expect("a path of letters");
    let same = qwgpu(&["bench", "--compare", old, old]).ok().stdout;
    assert!(same.contains("1.000") && !same.contains("faster"), "{same}");
    qwgpu(&["bench", "--compare", old, "nowhere.json"]).fails(1, &["nowhere.json"]);
    qwgpu(&["bench", "--compare", old, html]).fails(1, &["not what qwgpu bench"]);
}

#[test]
fn an_unknown_kernel_is_one_sentence() {
    qwgpu(&["bench", "kernels", "--kernel", "frobnicate"]).fails(2, &["no kernel frobnicate", "matvec"]);
}
