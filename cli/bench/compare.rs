//! `qwgpu bench --compare`: what got faster or slower between two files that `-o json` printed.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::statistics::{median, spread};
use crate::output::{JSON_VERSION, print};
use crate::table::Table;

/// Two runs of one binary differ by this much, however steady each is.
const LEAST_NOISE: f64 = 0.01;
/// Standard deviations that are still noise.
const DEVIATIONS: f64 = 2.0;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// `qwgpu bench kernels`, in nanoseconds.
    Kernels,
    /// `qwgpu bench`, in tokens per second.
    Models,
}

/// One file's results.
#[derive(Clone, Debug)]
struct File {
    kind: Kind,
    caches: String,
    adapter: String,
    rows: Vec<Row>,
}

/// What was measured, and how fast it was: dispatches or tokens per second.
#[derive(Clone, Debug)]
struct Row {
    name: String,
    speeds: Vec<f64>,
}

/// Runs the command.
///
/// # Errors
/// When a file cannot be read, or they cannot be compared.
pub(super) fn run(old: &Path, new: &Path) -> Result<()> {
    let [old_file, new_file] = [old, new].map(|path| {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        parse(&text).with_context(|| format!("cannot compare {}", path.display()))
    });
    print(&compare(&old_file?, &new_file?)?)
}

fn parse(text: &str) -> Result<File> {
    let json: Value = serde_json::from_str(text).context("it is not what qwgpu bench -o json prints")?;
    let version = json["version"].as_u64();
    let Some(results) = json["results"].as_array().filter(|_| version.is_some()) else {
        bail!("it is not what qwgpu bench -o json prints");
    };
    if version != Some(JSON_VERSION.into()) {
        bail!("it has version {}, not {JSON_VERSION}", version.unwrap_or_default());
    }
    let kind = match json["kind"].as_str() {
        Some("kernels") => Kind::Kernels,
        None => Kind::Models,
        Some(other) => bail!("it holds {other}, neither models nor kernels"),
    };
    let rows: Vec<Row> = results.iter().filter_map(|row| self::row(kind, row)).collect();
    if rows.is_empty() {
        bail!("it holds no results");
    }
    let adapter = json["adapter"].as_str().or(results[0]["adapter"].as_str());
    Ok(File {
        kind,
        caches: json["caches"].as_str().unwrap_or_default().to_owned(),
        adapter: adapter.unwrap_or("an unknown adapter").to_owned(),
        rows,
    })
}

/// `None` where it holds no samples, as rows that were skipped.
fn row(kind: Kind, row: &Value) -> Option<Row> {
    let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
    let samples = |field: &str| -> Vec<f64> { row[field].as_array().into_iter().flatten().filter_map(Value::as_f64).collect() };
    let (name, speeds) = match kind {
        Kind::Kernels => (
            format!("{} {}", text("kernel"), text("case")),
            samples("samples_ns").into_iter().map(|ns| 1e9 / ns.max(1e-3)).collect(),
        ),
        Kind::Models => (
            format!(
                "{} {} kv {} -b {} {}",
                text("model"),
                text("dtype"),
                text("kv_dtype"),
                row["n_batch"],
                text("test")
            ),
            samples("samples_ts"),
        ),
    };
    (!speeds.is_empty() && speeds.iter().all(|&speed| speed > 0.0)).then_some(Row { name, speeds })
}

/// The table, in the order of the old file, and what only one of them has.
fn compare(old: &File, new: &File) -> Result<String> {
    if old.kind != new.kind {
        bail!("one file holds models, the other kernels");
    }
    if old.caches != new.caches {
        bail!(
            "one file was measured with {} caches, the other with {} ones",
            old.caches,
            new.caches
        );
    }
    let title = match old.kind {
        Kind::Kernels => [">old us", ">new us"],
        Kind::Models => [">old t/s", ">new t/s"],
    };
    let mut table = Table::new(&["", title[0], title[1], ">new/old speed", ">noise", ""]);
    let mut lone = Vec::new();
    for row in &old.rows {
        match new.rows.iter().find(|other| other.name == row.name) {
            Some(other) => table.row(cells(old.kind, row, other)),
            None => lone.push(format!("only in the old file: {}\n", row.name)),
        }
    }
    let is_new = |row: &&Row| old.rows.iter().all(|other| other.name != row.name);
    lone.extend(
        new.rows
            .iter()
            .filter(is_new)
            .map(|row| format!("only in the new file: {}\n", row.name)),
    );
    let adapters = if old.adapter == new.adapter {
        format!("Both on {}.", old.adapter)
    } else {
        format!("Old on {}, new on {}.", old.adapter, new.adapter)
    };
    let noise = format!(
        "Noise is {DEVIATIONS} deviations of both together, {} % at least.",
        LEAST_NOISE * 100.0
    );
    Ok(format!("{}\n{adapters} {noise}\n{}", table.markdown(), lone.concat()))
}

fn cells(kind: Kind, old: &Row, new: &Row) -> Vec<String> {
    let (before, after) = (median(&old.speeds), median(&new.speeds));
    let ratio = after / before;
    let relative = |row: &Row| spread(&row.speeds) / median(&row.speeds);
    let noise = (DEVIATIONS * relative(old).hypot(relative(new))).max(LEAST_NOISE);
    let verdict = match ratio {
        _ if ratio > 1.0 + noise => "faster",
        _ if ratio < 1.0 / (1.0 + noise) => "slower",
        _ => "",
    };
    let figure = |speed: f64| match kind {
        Kind::Kernels => format!("{:.3}", 1e6 / speed),
        Kind::Models => format!("{speed:.2}"),
    };
    vec![
        old.name.clone(),
        figure(before),
        figure(after),
        format!("{ratio:.3}"),
        format!("{:.1} %", noise * 100.0),
        verdict.into(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kernels(rows: &[(&str, &[f64])]) -> Value {
        let row = |(case, ns): &(&str, &[f64])| json!({ "kernel": "rope", "case": case, "samples_ns": ns });
        json!({ "version": 1, "kind": "kernels", "caches": "cold", "adapter": "A", "results": rows.iter().map(row).collect::<Vec<_>>() })
    }

    fn models(speeds: &[f64]) -> Value {
        let row = json!({ "model": "m", "dtype": "f16", "kv_dtype": "f16", "n_batch": 512, "test": "pp512", "adapter": "A", "samples_ts": speeds });
        json!({ "version": 1, "results": [row] })
    }

    fn compared(old: &Value, new: &Value) -> Result<String> {
        compare(&parse(&old.to_string())?, &parse(&new.to_string())?)
    }

    fn line(text: &str, word: &str) -> String {
        let found = text.lines().find(|line| line.contains(word));
        found.unwrap_or_else(|| panic!("no {word} in {text}")).to_owned()
    }

    #[test]
    fn what_exceeds_the_noise_is_marked() {
        let old = kernels(&[
            ("quick", &[1000.0, 1001.0, 999.0]),
            ("slack", &[1000.0, 1001.0, 999.0]),
            ("loud", &[1000.0, 1200.0, 800.0]),
            ("gone", &[1.0]),
        ]);
        let new = kernels(&[
            ("loud", &[1100.0, 1300.0, 900.0]),
            ("slack", &[1100.0, 1101.0, 1099.0]),
            ("quick", &[500.0, 501.0, 499.0]),
            ("added", &[1.0]),
        ]);
        let text = compared(&old, &new).unwrap();
        let quick = line(&text, "quick");
        assert!(
            quick.contains("faster") && quick.contains("2.000") && quick.contains("1.000 |"),
            "{quick}"
        );
        assert!(line(&text, "slack").contains("slower"), "{text}");
        let loud = line(&text, "loud");
        assert!(!loud.contains("faster") && !loud.contains("slower"), "{loud}");
        assert!(line(&text, "gone").contains("only in the old file"), "{text}");
        assert!(line(&text, "added").contains("only in the new file"), "{text}");
    }

    #[test]
    fn models_count_tokens_per_second() {
        let text = compared(&models(&[100.0, 101.0, 99.0]), &models(&[150.0, 151.0, 149.0])).unwrap();
        assert!(
            line(&text, "pp512").contains("faster") && line(&text, "pp512").contains("1.500"),
            "{text}"
        );
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let some = kernels(&[("a", &[1.0])]);
        let fails = |old: &Value, new: &Value, word: &str| {
            let message = format!("{:#}", compared(old, new).unwrap_err());
            assert!(message.contains(word) && !message.contains('\n'), "{message}");
        };
        fails(&some, &models(&[1.0]), "one file holds models");
        let with = |field: &str, value: Value| {
            let mut other = some.clone();
            other[field] = value;
            other
        };
        fails(&some, &with("version", json!(2)), "version 2");
        fails(&some, &with("caches", json!("warm")), "warm");
        fails(&some, &with("kind", json!("songs")), "songs");
        fails(&some, &with("results", json!([])), "no results");
        fails(&some, &json!([1]), "not what qwgpu bench");
    }
}
