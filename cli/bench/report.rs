//! The results of `qwgpu bench`: statistics, and four ways to print them.

use std::time::Duration;

use anyhow::Result;
use qwgpu_model::Model;
use serde::Serialize;

use super::Test;
use crate::args::{BenchArgs, Format};
use crate::output::{JSON_VERSION, human_bytes, print, print_json};
use crate::table::Table;

/// One test's results; field names where they mean the same are llama-bench's.
#[derive(Clone, Serialize)]
struct Row {
    version: u32,
    model: String,
    adapter: String,
    driver: String,
    model_size: u64,
    model_n_params: u64,
    dtype: &'static str,
    kv_dtype: String,
    n_batch: usize,
    n_prompt: usize,
    n_gen: usize,
    n_depth: usize,
    test: String,
    avg_ns: f64,
    stddev_ns: f64,
    avg_ts: f64,
    stddev_ts: f64,
    samples_ns: Vec<u64>,
    samples_ts: Vec<f64>,
}

#[derive(Serialize)]
struct Results<'a> {
    version: u32,
    results: &'a [Row],
}

/// Collects rows. JSON lines are printed as they come, everything else at the end.
pub(super) struct Report {
    format: Format,
    /// A row with everything but results.
    base: Row,
    rows: Vec<Row>,
}

impl Report {
    pub(super) fn new(args: &BenchArgs, model: &Model, name: String) -> Self {
        let info = model.gpu().info();
        let base = Row {
            version: JSON_VERSION,
            model: name,
            adapter: info.label(),
            driver: info.driver.clone(),
            model_size: model.plan().weights,
            model_n_params: model.config().n_parameters(),
            dtype: model.dtype().name(),
            kv_dtype: format!("{:?}", model.kv()).to_lowercase(),
            n_batch: model.batch(),
            n_prompt: 0,
            n_gen: 0,
            n_depth: 0,
            test: String::new(),
            avg_ns: 0.0,
            stddev_ns: 0.0,
            avg_ts: 0.0,
            stddev_ts: 0.0,
            samples_ns: Vec::new(),
            samples_ts: Vec::new(),
        };
        Self {
            format: args.output,
            base,
            rows: Vec::new(),
        }
    }

    /// Adds a test's timed runs.
    pub(super) fn add(&mut self, test: Test, samples: &[Duration]) -> Result<()> {
        let ns: Vec<f64> = samples.iter().map(|time| time.as_nanos() as f64).collect();
        let speeds: Vec<f64> = samples.iter().map(|time| test.n_tokens() as f64 / time.as_secs_f64()).collect();
        let (avg_ns, stddev_ns) = mean_and_deviation(&ns);
        let (avg_ts, stddev_ts) = mean_and_deviation(&speeds);
        let row = Row {
            n_prompt: test.n_prompt,
            n_gen: test.n_gen,
            n_depth: test.depth,
            test: test.name(),
            avg_ns,
            stddev_ns,
            avg_ts,
            stddev_ts,
            samples_ns: samples.iter().map(|time| time.as_nanos() as u64).collect(),
            samples_ts: speeds,
            ..self.base.clone()
        };
        if self.format == Format::Jsonl {
            print(&(serde_json::to_string(&row)? + "\n"))?;
        }
        self.rows.push(row);
        Ok(())
    }

    /// Prints what has not been printed yet.
    pub(super) fn finish(&self) -> Result<()> {
        match self.format {
            Format::Md => print(&self.markdown()),
            Format::Csv => print(&self.csv()),
            Format::Json => print_json(&Results {
                version: JSON_VERSION,
                results: &self.rows,
            }),
            Format::Jsonl => Ok(()),
        }
    }

    fn markdown(&self) -> String {
        let mut table = Table::new(&["model", ">size", ">params", "type", "KV", ">batch", ">test", ">t/s"]);
        for row in &self.rows {
            table.row(vec![
                row.model.clone(),
                human_bytes(row.model_size),
                human_count(row.model_n_params),
                row.dtype.into(),
                row.kv_dtype.clone(),
                row.n_batch.to_string(),
                row.test.clone(),
                format!("{:.2} ± {:.2}", row.avg_ts, row.stddev_ts),
            ]);
        }
        // The same for all rows, and long: below the table it keeps the lines short.
        let Row { adapter, driver, .. } = &self.base;
        format!(
            "{}\nqwgpu {} on {adapter}, driver {driver}\n",
            table.markdown(),
            env!("CARGO_PKG_VERSION")
        )
    }

    fn csv(&self) -> String {
        let mut text = String::from(
            "model,adapter,driver,model_size,model_n_params,dtype,kv_dtype,n_batch,n_prompt,n_gen,n_depth,test,avg_ns,stddev_ns,avg_ts,stddev_ts\n",
        );
        for row in &self.rows {
            let Row {
                model_size,
                model_n_params,
                n_batch,
                n_prompt,
                n_gen,
                n_depth,
                ..
            } = row;
            let [model, adapter, driver, test] = [&row.model, &row.adapter, &row.driver, &row.test].map(|text| quoted(text));
            text += &format!(
                "{model},{adapter},{driver},{model_size},{model_n_params},{},{},{n_batch},{n_prompt},{n_gen},{n_depth},{test},{:.0},{:.0},{:.4},{:.4}\n",
                row.dtype, row.kv_dtype, row.avg_ns, row.stddev_ns, row.avg_ts, row.stddev_ts
            );
        }
        text
    }
}

/// The mean, and the deviation of a sample (n - 1 below the root; 0 for one value).
fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, if values.len() > 1 { (squares / (n - 1.0)).sqrt() } else { 0.0 })
}

/// A cell of CSV.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

fn human_count(n: u64) -> String {
    match n {
        0..1_000_000 => format!("{:.2} K", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} M", n as f64 / 1e6),
        _ => format!("{:.2} B", n as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deviation_is_that_of_a_sample() {
        assert_eq!(mean_and_deviation(&[3.0]), (3.0, 0.0));
        let (mean, deviation) = mean_and_deviation(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]);
        assert!((mean - 5.0).abs() < 1e-12 && (deviation - (32.0f64 / 7.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn csv_cells_survive_quotes_and_commas() {
        assert_eq!(quoted("a \"b\", c"), "\"a \"\"b\"\", c\"");
    }
}
