//! The tokenizer and the chat template against the reference: every case computed with tokenizers and transformers on the real
//! Qwen2 files, kept under `tests/golden/tokenizer`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use qwgpu_model::Error;
use qwgpu_model::chat::{ChatTemplate, Message};
use qwgpu_model::tokenizer::{StreamDecoder, Tokenizer};
use serde_json::Value;

fn golden_path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/tokenizer").join(file)
}

fn golden(file: &str) -> String {
    let path = golden_path(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// tokenizer.json, which takes a third of its size compressed.
fn tokenizer_json() -> String {
    let file = File::open(golden_path("tokenizer.json.gz")).unwrap();
    let mut json = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut json).unwrap();
    json
}

/// A file of the reference data that a clone may lack.
fn shared(file: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let found = ["../shared", "shared"]
        .into_iter()
        .map(|folder| root.join(folder).join(file))
        .find(|path| path.exists());
    if found.is_none() {
        eprintln!("skipped: there is no shared/{file}");
    }
    found
}

fn qwen2() -> Tokenizer {
    Tokenizer::from_json(&tokenizer_json()).unwrap()
}

fn cases() -> Value {
    serde_json::from_str(&golden("tokenizer_cases.json")).unwrap()
}

fn list<'a>(cases: &'a Value, key: &str, n_expected: usize) -> &'a [Value] {
    let list = cases[key].as_array().unwrap();
    assert_eq!(list.len(), n_expected, "{key}");
    list
}

fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key].as_str().unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

fn streamed(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut decoder = StreamDecoder::new();
    let mut text: String = ids.iter().map(|&id| decoder.push(tokenizer, id)).collect();
    text += &decoder.finish();
    text
}

#[test]
fn encodes_and_decodes_like_the_reference() {
    let tokenizer = qwen2();
    for case in list(&cases(), "encode", 75) {
        let name = text(case, "name");
        let expected = ids(&case["ids"]);
        assert_eq!(tokenizer.encode(text(case, "text")).unwrap(), expected, "{name}");
        assert_eq!(tokenizer.decode(&expected, false), text(case, "decoded"), "{name}");
        assert_eq!(tokenizer.decode(&expected, true), text(case, "decoded_skip_special"), "{name}");
        assert_eq!(
            streamed(&tokenizer, &expected),
            text(case, "decoded_skip_special"),
            "{name}, streamed"
        );
    }
}

#[test]
fn renders_and_encodes_conversations_like_the_reference() {
    let tokenizer = qwen2();
    let template = ChatTemplate::from_checkpoint_files(Some(&golden("tokenizer_config.json")), None)
        .unwrap()
        .unwrap();
    for case in list(&cases(), "chat", 12) {
        let name = text(case, "name");
        let messages: Vec<Message> = case["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| Message::new(text(m, "role"), text(m, "content")))
            .collect();
        let prompt = template
            .render(&messages, case["add_generation_prompt"].as_bool().unwrap())
            .unwrap();
        assert_eq!(prompt, text(case, "prompt"), "{name}");
        assert_eq!(tokenizer.encode(&prompt).unwrap(), ids(&case["ids"]), "{name}");
    }
}

#[test]
fn tokens_have_the_bytes_of_the_reference() {
    let tokenizer = qwen2();
    for case in list(&cases(), "stream", 5) {
        let expected = text(case, "text");
        let (ids, bytes) = (ids(&case["ids"]), case["bytes"].as_array().unwrap());
        assert_eq!(tokenizer.encode(expected).unwrap(), ids, "{expected}");
        assert_eq!(ids.len(), bytes.len());
        let mut decoder = StreamDecoder::new();
        let (mut whole, mut so_far) = (Vec::new(), String::new());
        for (&id, hex) in ids.iter().zip(bytes) {
            let found: String = tokenizer.token_bytes(id).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(found, hex.as_str().unwrap(), "{expected}");
            // All that is complete comes out at once, and no half characters.
            whole.extend_from_slice(tokenizer.token_bytes(id));
            so_far += &decoder.push(&tokenizer, id);
            let complete = std::str::from_utf8(&whole).map_or_else(|error| error.valid_up_to(), str::len);
            assert_eq!(so_far.as_bytes(), &whole[..complete], "{expected}");
        }
        assert_eq!((so_far.as_str(), decoder.finish().as_str()), (expected, ""));
    }
}

#[test]
fn knows_special_tokens_and_padding_rows() {
    let tokenizer = qwen2();
    assert_eq!(tokenizer.n_tokens(), 151_646);
    assert_eq!(tokenizer.id_of("<|im_end|>"), Some(151_645));
    assert_eq!(tokenizer.id_of("<|nonsense|>"), None);
    assert_eq!(tokenizer.token_bytes(151_644), b"<|im_start|>");
    assert!((151_643..151_646).all(|id| tokenizer.is_special(id)));
    assert!(!tokenizer.is_special(151_642) && !tokenizer.is_special(151_646));
    // 152064 rows have the largest embeddings of the family; `u32::MAX` has none.
    for id in [151_646, 151_935, 152_063, u32::MAX] {
        assert!(tokenizer.token_bytes(id).is_empty());
    }
    assert_eq!(tokenizer.decode(&[9707, 151_646, 151_645, u32::MAX, 11], true), "Hello,");
    assert_eq!(tokenizer.decode(&[9707, 151_646, 151_645, u32::MAX, 11], false), "Hello<|im_end|>,");
    assert_eq!(streamed(&tokenizer, &[9707, 151_646, 151_645, u32::MAX, 11]), "Hello,");
    // 145233 is the first emoji of the family of four, 378 and 235 a joiner in two halves: here its second half is missing.
    assert_eq!(streamed(&tokenizer, &[145_233, 378, 9707, 378]), "👩\u{FFFD}Hello\u{FFFD}");
}

#[test]
fn takes_merges_as_strings_and_as_pairs() {
    let json = tokenizer_json();
    let mut value: Value = serde_json::from_str(&json).unwrap();
    assert!(value["model"]["merges"][0].is_string(), "the golden file has the older form");
    for merge in value["model"]["merges"].as_array_mut().unwrap() {
        let (left, right) = merge.as_str().unwrap().split_once(' ').unwrap();
        *merge = serde_json::json!([left, right]);
    }
    // Settings for training batches, which must not cut a prompt.
    value["truncation"] = serde_json::json!({"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0});
    value["padding"] = serde_json::json!({"strategy": {"Fixed": 100}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 151643, "pad_type_id": 0, "pad_token": "<|endoftext|>"});
    let tokenizer = Tokenizer::from_json(&value.to_string()).unwrap();
    for case in list(&cases(), "encode", 75) {
        assert_eq!(
            tokenizer.encode(text(case, "text")).unwrap(),
            ids(&case["ids"]),
            "{}",
            text(case, "name")
        );
    }
}

/// A tokenizer of five tokens, to be damaged.
fn tiny() -> Value {
    serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "added_tokens": [{"id": 4, "content": "<é>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": false}],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "Ġ": 7}, "merges": ["a b"]},
    })
}

#[test]
fn added_tokens_and_gaps_are_as_in_the_file() {
    let tokenizer = Tokenizer::from_json(&tiny().to_string()).unwrap();
    assert_eq!(tokenizer.n_tokens(), 8);
    assert_eq!(tokenizer.encode("ab <é>a").unwrap(), [2, 7, 4, 0]);
    // Not special, so that it belongs to the text; and spelled plainly, not in the byte alphabet.
    assert_eq!(tokenizer.decode(&[2, 7, 4, 5, 0], true), "ab <é>a");
}

#[test]
fn unusable_files_are_errors() {
    let rejects = |json: &str| match Tokenizer::from_json(json) {
        Err(Error::Tokenizer { reason }) => reason,
        other => panic!("expected an error for {}, got {other:?}", &json[..json.len().min(300)]),
    };
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut value = tiny();
        change(&mut value);
        rejects(&value.to_string())
    };
    assert!(changed(&|v| v["model"]["type"] = "Unigram".into()).contains("Unigram"));
    assert!(changed(&|v| v["decoder"] = Value::Null).contains("decoder"));
    assert!(changed(&|v| v["decoder"]["type"] = "WordPiece".into()).contains("WordPiece"));
    assert!(changed(&|v| v["model"]["continuing_subword_prefix"] = "####".into()).contains("continuing_subword_prefix"));
    assert!(changed(&|v| v["model"]["dropout"] = 0.5.into()).contains("dropout"));
    assert!(changed(&|v| v["model"]["vocab"]["b"] = 4_000_000_000_u32.into()).contains("4000000000"));
    changed(&|v| v["model"]["merges"] = serde_json::json!(["a z"]));
    changed(&|v| v["model"]["merges"] = serde_json::json!(["ab"]));
    changed(&|v| v["model"]["merges"] = serde_json::json!([["a", "b", "a"]]));
    changed(&|v| v["model"]["merges"] = serde_json::json!([["b", "a"]]));
    changed(&|v| v["model"]["vocab"] = serde_json::json!({"a": -1}));
    changed(&|v| {
        v["pre_tokenizer"] = serde_json::json!({"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": false})
    });
    changed(&|v| {
        v["model"]["vocab"] = serde_json::json!({});
        v["model"]["merges"] = serde_json::json!([]);
        v["added_tokens"] = serde_json::json!([]);
    });
    rejects("[]");
    rejects(&"[".repeat(100_000));
    // Cut off anywhere.
    let json = tiny().to_string();
    for end in (0..json.len()).filter(|&end| json.is_char_boundary(end)) {
        rejects(&json[..end]);
    }
}

#[test]
fn long_texts_do_not_hang() {
    let tokenizer = qwen2();
    let n = 300_000;
    let texts = [
        ("blanks", " ".repeat(n)),
        ("blanks and a letter", " ".repeat(n) + "x"),
        ("newlines", "\n".repeat(n)),
        ("blanks and newlines", "   \n \t\r\n".repeat(n / 8)),
        ("one letter", "a".repeat(n)),
        ("punctuation", "!".repeat(n)),
        ("apostrophes", "'s".repeat(n / 2)),
        ("digits", "7".repeat(n)),
        ("combining marks", "e\u{301}\u{323}".repeat(n / 5)),
        ("one letter under a heap of marks", "e".to_owned() + &"\u{301}\u{323}".repeat(n / 4)),
        ("chinese", "北京".repeat(n / 6)),
        ("special tokens", "<|im_end|>".repeat(n / 10)),
        ("broken special tokens", "<|im_end|".repeat(n / 9)),
    ];
    for (name, text) in &texts {
        let start = Instant::now();
        let ids = tokenizer.encode(text).unwrap();
        let elapsed = start.elapsed();
        println!("{name}: {} bytes, {} ids, {elapsed:?}", text.len(), ids.len());
        // Far above what it takes, far below what anything quadratic would.
        assert!(elapsed < Duration::from_secs(20), "{name} took {elapsed:?}");
        if !name.contains("marks") {
            assert_eq!(&tokenizer.decode(&ids, false), text, "{name}");
        }
    }
}

#[test]
fn a_novel_round_trips() {
    let Some(path) = shared("text/northanger_abbey.txt") else { return };
    let text = std::fs::read_to_string(path).unwrap();
    let start = Instant::now();
    let tokenizer = qwen2();
    let loaded = start.elapsed();
    let start = Instant::now();
    let ids = tokenizer.encode(&text).unwrap();
    println!(
        "loaded in {loaded:?}; {} bytes to {} ids in {:?}",
        text.len(),
        ids.len(),
        start.elapsed()
    );
    assert_eq!(tokenizer.decode(&ids, false), text);
    assert_eq!(streamed(&tokenizer, &ids), text);
}

#[test]
fn the_demo_models_prompts_have_the_golden_ids() {
    for model in ["demo-dense", "demo-moe"] {
        let (Some(tokenizer), Some(golden)) = (
            shared(&format!("models/{model}/tokenizer.json")),
            shared(&format!("models/{model}/golden.json")),
        ) else {
            return;
        };
        let tokenizer = Tokenizer::from_json(&std::fs::read_to_string(tokenizer).unwrap()).unwrap();
        let golden: Value = serde_json::from_str(&std::fs::read_to_string(golden).unwrap()).unwrap();
        let prompts = golden["prompts"].as_array().unwrap();
        assert!(!prompts.is_empty());
        for case in prompts {
            assert_eq!(tokenizer.encode(text(case, "prompt")).unwrap(), ids(&case["prompt_ids"]), "{model}");
            assert_eq!(tokenizer.decode(&ids(&case["prompt_ids"]), false), text(case, "prompt"), "{model}");
        }
    }
}
