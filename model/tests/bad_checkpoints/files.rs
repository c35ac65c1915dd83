//! Damaged, missing and contradictory files.

use std::fs;
use std::path::Path;

use qwgpu_model::Error;
use qwgpu_model::checkpoint::Checkpoint;

use super::{GOOD_HEADER, config, weights};

fn write(dir: &Path, files: &[(&str, &[u8])]) {
    for (name, bytes) in files {
        fs::write(dir.join(name), bytes).unwrap();
    }
}

/// What opening a folder with a sound configuration and these files says.
fn open_error(files: &[(&str, &[u8])]) -> Error {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[("config.json", config().to_string().as_bytes())]);
    write(dir.path(), files);
    Checkpoint::open(dir.path()).expect_err("this checkpoint is damaged")
}

#[test]
fn the_undamaged_checkpoint_opens() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        &[
            ("config.json", config().to_string().as_bytes()),
            ("model.safetensors", &weights(GOOD_HEADER, 20)),
        ],
    );
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.tensor_of("b", &[2, 3]).unwrap().data, [1; 12]);
}

#[test]
fn damaged_weight_files_are_named_with_the_damage() {
    let good = weights(GOOD_HEADER, 20);
    let one =
        |dtype: &str, shape: &str, offsets: &str| format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#);
    let two = |first: &str, second: &str| {
        format!(r#"{{"a":{{"dtype":"U8","shape":[4],"data_offsets":{first}}},"b":{{"dtype":"U8","shape":[4],"data_offsets":{second}}}}}"#)
    };
    let long_header = [&u64::MAX.to_le_bytes()[..], &good[8..]].concat();
    let beyond = [&5000u64.to_le_bytes()[..], &good[8..]].concat();
    let not_json = weights("{\"a\": !", 0);
    let mut not_utf8 = good.clone();
    not_utf8[10] = 0xff;
    let huge = format!("[{0},{0},{0}]", 1u64 << 40);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", vec![], "0 bytes"),
        ("seven bytes", vec![0; 7], "7 bytes"),
        ("truncated header", good[..30].to_vec(), "download it again"),
        (
            "truncated data",
            good[..good.len() - 1].to_vec(),
            "tensor `b` ends at byte 20, but the file holds only 19",
        ),
        (
            "no data",
            good[..good.len() - 20].to_vec(),
            "tensor `a` ends at byte 8, but the file holds only 0",
        ),
        ("surplus", [&good[..], &[0; 5]].concat(), "5 bytes at its end"),
        ("absurd header", long_header, "limit of 100000000"),
        ("header beyond the file", beyond, "claims 5000 bytes"),
        ("not JSON", not_json, "header cannot be read"),
        ("not UTF-8", not_utf8, "header cannot be read"),
        ("no object", weights("[1,2]", 0), "an object of tensors"),
        ("deep nesting", weights(&"[".repeat(5000), 0), "header cannot be read"),
        (
            "deep entry",
            weights(&format!("{{\"a\":{}", "{\"x\":".repeat(5000)), 0),
            "tensor `a`",
        ),
        (
            "field missing",
            weights(r#"{"a":{"dtype":"F32","shape":[2]}}"#, 8),
            "tensor `a`: missing field `data_offsets`",
        ),
        (
            "dtype no string",
            weights(r#"{"a":{"dtype":32,"shape":[2],"data_offsets":[0,8]}}"#, 8),
            "tensor `a`",
        ),
        ("negative shape", weights(&one("F32", "[-2]", "[0,8]"), 8), "tensor `a`"),
        ("fractional offset", weights(&one("F32", "[2]", "[0,8.5]"), 8), "tensor `a`"),
        (
            "offset above 64 bits",
            weights(&one("F32", "[2]", "[0,99999999999999999999]"), 8),
            "tensor `a`",
        ),
        (
            "out of range",
            weights(&one("F32", "[2]", "[8,16]"), 8),
            "tensor `a` ends at byte 16",
        ),
        (
            "far out of range",
            weights(&one("U8", "[18446744073709551615]", "[0,18446744073709551615]"), 8),
            "the file holds only 8",
        ),
        ("backwards", weights(&one("F32", "[0]", "[8,0]"), 8), "before its start"),
        (
            "wrong size",
            weights(&one("F32", "[3]", "[0,8]"), 8),
            "tensor `a` of shape [3] in F32 has 8 bytes",
        ),
        ("shape overflow", weights(&one("F32", &huge, "[0,8]"), 8), "too large to count"),
        (
            "size overflow",
            weights(&one("F32", "[4611686018427387904]", "[0,0]"), 0),
            "too large to count",
        ),
        ("half a byte", weights(&one("F4", "[3]", "[0,1]"), 1), "ends within a byte"),
        ("overlap", weights(&two("[0,4]", "[2,6]"), 6), "tensor `b` overlaps"),
        ("same bytes", weights(&two("[0,4]", "[0,4]"), 4), "overlaps"),
        ("hole", weights(&two("[0,4]", "[6,10]"), 10), "2 bytes before tensor `b`"),
        ("hole in front", weights(&two("[1,5]", "[5,9]"), 9), "1 bytes before tensor `a`"),
        (
            "twice",
            weights(&two("[0,4]", "[4,8]").replace("\"b\"", "\"a\""), 8),
            "lists tensor `a` twice",
        ),
    ];
    for (what, bytes, expected) in cases {
        let error = open_error(&[("model.safetensors", &bytes)]);
        assert!(
            matches!(&error, Error::SafeTensors { file, .. } if file == "model.safetensors"),
            "{what}: {error:?}"
        );
        let message = error.to_string();
        assert!(
            message.contains(expected) && message.contains("model.safetensors"),
            "{what}: {message}"
        );
    }
}

#[test]
fn damaged_indices_are_named_with_the_damage() {
    const INDEX: &str = "model.safetensors.index.json";
    let shard = weights(GOOD_HEADER, 20);
    let index = |map: &str| format!(r#"{{"metadata": {{}}, "weight_map": {map}}}"#);
    let cases = [
        ("{", "is not valid"),
        ("[]", "is not valid"),
        ("{}", "missing field `weight_map`"),
        (r#"{"weight_map": {"a": 1}}"#, "is not valid"),
        (&index(r#"{"a": "../one.safetensors"}"#), "not a plain file name"),
        (&index(r#"{"a": "/etc/one.safetensors"}"#), "not a plain file name"),
        (&index(r#"{"a": "C:\\one.safetensors"}"#), "not a plain file name"),
        (&index(r#"{"a": "sub/one.safetensors"}"#), "not a plain file name"),
        (&index(r#"{"a": ".."}"#), "not a plain file name"),
        (&index(r#"{"a": ""}"#), "not a plain file name"),
        (&index(r#"{"a": "config.json"}"#), "not a plain file name"),
        (
            &index(r#"{"a": "one.safetensors", "gone": "one.safetensors"}"#),
            "tensor `gone` is in one.safetensors",
        ),
    ];
    for (text, expected) in cases {
        let error = open_error(&[(INDEX, text.as_bytes()), ("one.safetensors", &shard)]);
        assert!(matches!(&error, Error::Json { file, .. } if file == INDEX), "{text}: {error:?}");
        assert!(error.to_string().contains(expected), "{text}: {error}");
    }
    let lost = open_error(&[
        (INDEX, index(r#"{"a": "one.safetensors", "b": "two.safetensors"}"#).as_bytes()),
        ("one.safetensors", &shard),
    ]);
    assert!(
        matches!(&lost, Error::MissingFile { file, .. } if file.starts_with("two.safetensors")),
        "{lost:?}"
    );
    let files: [(&str, &[u8]); 3] = [
        (INDEX, br#"{"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}"#),
        ("one.safetensors", &shard),
        ("two.safetensors", &shard),
    ];
    let message = open_error(&files).to_string();
    assert!(
        message.contains("two.safetensors") && message.contains("one.safetensors holds too"),
        "{message}"
    );
    let damaged = open_error(&[
        (INDEX, index(r#"{"a": "one.safetensors"}"#).as_bytes()),
        ("one.safetensors", &shard[..40]),
    ]);
    assert!(
        matches!(&damaged, Error::SafeTensors { file, .. } if file == "one.safetensors"),
        "{damaged:?}"
    );
}

#[test]
fn folders_without_a_checkpoint_say_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Checkpoint::open(dir.path()).unwrap_err();
    let gone = Checkpoint::open(&dir.path().join("nowhere")).unwrap_err();
    assert!(matches!(&gone, Error::Io { path, .. } if path.ends_with("nowhere")), "{gone:?}");
    assert!(matches!(open(), Error::MissingFile { file, .. } if file == "config.json"));
    write(dir.path(), &[("config.json", config().to_string().as_bytes())]);
    assert!(matches!(open(), Error::MissingFile { file, .. } if file == "model.safetensors"));
    write(dir.path(), &[("pytorch_model.bin", b"x")]);
    assert!(
        open().to_string().contains("only pytorch_model.bin, which has to be converted"),
        "{}",
        open()
    );
    fs::create_dir(dir.path().join("model.safetensors")).unwrap();
    assert!(open().to_string().contains("not a regular file"), "{}", open());
    let file = Checkpoint::open(&dir.path().join("pytorch_model.bin")).unwrap_err();
    assert!(file.to_string().contains("give the folder"), "{file}");
    write(dir.path(), &[("config.json", &[b'{', 0xff, b'}'])]);
    assert!(
        open().to_string().contains("config.json is not valid: it is not UTF-8"),
        "{}",
        open()
    );
}

#[cfg(unix)]
#[test]
fn a_pipe_in_place_of_a_file_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("config.json");
    // A socket is the one special file that std can make; like a pipe it is refused before it is opened.
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let error = Checkpoint::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("not a regular file"), "{error}");
}
