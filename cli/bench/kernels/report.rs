//! The results of `qwgpu bench kernels`, and four ways to print them.

use anyhow::Result;
use qwgpu_runtime::Gpu;
use qwgpu_suite::bench::{CeilingKind, Measured};
use serde::Serialize;

use super::super::report::quoted;
use crate::args::Format;
use crate::output::{JSON_VERSION, print, print_json};
use crate::table::Table;

/// One ceiling.
#[derive(Clone, Debug, Serialize)]
pub(in super::super) struct Ceiling {
    pub(in super::super) name: &'static str,
    pub(in super::super) unit: &'static str,
    /// In `unit`; `null` where it was not measured.
    pub(in super::super) value: Option<f64>,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in super::super) skipped: Option<String>,
    #[serde(skip)]
    per_second: Option<f64>,
}

impl Ceiling {
    pub(in super::super) fn new(measured: &Measured) -> Self {
        let value = measured.value.as_ref().ok().copied();
        Self {
            name: measured.kind.name(),
            unit: measured.kind.unit(),
            value: value.map(|value| measured.kind.in_unit(value)),
            skipped: measured.value.as_ref().err().cloned(),
            per_second: value,
        }
    }
}

/// One case. Bytes and operations are those that cannot be avoided; the figures are zero where it was skipped.
#[derive(Clone, Debug, Default, Serialize)]
pub(in super::super) struct Row {
    pub(in super::super) kernel: &'static str,
    pub(in super::super) case: String,
    pub(in super::super) bytes: u64,
    pub(in super::super) flops: u64,
    /// The median, in microseconds.
    pub(in super::super) us: f64,
    pub(in super::super) spread_us: f64,
    pub(in super::super) gb_s: f64,
    pub(in super::super) tflop_s: f64,
    /// The name of the ceiling that limits it.
    pub(in super::super) ceiling: &'static str,
    /// The shortest time that the ceilings allow, in per cent of the time it took.
    pub(in super::super) percent: f64,
    pub(in super::super) dispatches: usize,
    pub(in super::super) copies: usize,
    pub(in super::super) samples_ns: Vec<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in super::super) skipped: Option<String>,
}

/// Everything.
#[derive(Clone, Debug, Serialize)]
pub(in super::super) struct Report {
    version: u32,
    kind: &'static str,
    pub(in super::super) adapter: String,
    pub(in super::super) driver: String,
    /// What clock the times are of.
    pub(in super::super) clock: &'static str,
    /// Whether caches held the data: `cold` or `warm`.
    pub(in super::super) caches: &'static str,
    pub(in super::super) ceilings: Vec<Ceiling>,
    pub(in super::super) results: Vec<Row>,
}

impl Report {
    pub(in super::super) fn new(gpu: &Gpu, warm: bool) -> Self {
        let info = gpu.info();
        Self {
            adapter: info.label(),
            driver: info.driver.clone(),
            clock: if gpu.caps().timestamps { "GPU timestamps" } else { "wall clock" },
            caches: if warm { "warm" } else { "cold" },
            ..Self::empty()
        }
    }

    fn empty() -> Self {
        Self {
            version: JSON_VERSION,
            kind: "kernels",
            adapter: String::new(),
            driver: String::new(),
            clock: "",
            caches: "",
            ceilings: Vec::new(),
            results: Vec::new(),
        }
    }

    /// For tests: one without results.
    #[cfg(test)]
    pub(in super::super) fn with_ceilings(adapter: &str, ceilings: &[(CeilingKind, f64)]) -> Self {
        let ceiling = |&(kind, value): &(CeilingKind, f64)| Ceiling::new(&Measured { kind, value: Ok(value) });
        Self {
            adapter: adapter.to_owned(),
            ceilings: ceilings.iter().map(ceiling).collect(),
            ..Self::empty()
        }
    }

    /// Bytes or operations per second, where measured.
    pub(in super::super) fn ceiling(&self, kind: CeilingKind) -> Option<f64> {
        self.ceilings.iter().find(|ceiling| ceiling.name == kind.name())?.per_second
    }

    /// The first reason for which a ceiling is missing.
    pub(super) fn why_no_ceiling(&self) -> &str {
        let mut reasons = self.ceilings.iter().filter_map(|ceiling| ceiling.skipped.as_deref());
        reasons.next().unwrap_or("unknown")
    }

    pub(super) fn print(&self, format: Format) -> Result<()> {
        match format {
            Format::Md => print(&self.markdown()),
            Format::Csv => print(&self.csv()),
            Format::Json => print_json(self),
            Format::Jsonl => print(&self.json_lines()?),
        }
    }

    /// How it was measured, in one line.
    pub(in super::super) fn method(&self) -> String {
        format!(
            "qwgpu {} on {}, driver {}, caches {}, by {}",
            env!("CARGO_PKG_VERSION"),
            self.adapter,
            self.driver,
            self.caches,
            self.clock
        )
    }

    fn markdown(&self) -> String {
        let mut table = Table::new(&["ceiling", ">", "unit"]);
        for ceiling in &self.ceilings {
            let (value, unit) = match (&ceiling.value, &ceiling.skipped) {
                (Some(value), _) => (significant(*value), ceiling.unit.to_owned()),
                (None, reason) => ("-".into(), reason.clone().unwrap_or_default()),
            };
            table.row(vec![ceiling.name.into(), value, unit]);
        }
        let mut text = table.markdown();
        if !self.results.is_empty() {
            let mut table = Table::new(&["kernel", "case", ">us", ">±", ">GB/s", ">TFLOP/s", ">%", "of"]);
            for row in &self.results {
                table.row(cells(row));
            }
            text += &format!("\n{}", table.markdown());
        }
        text + &format!("\n{}\n", self.method())
    }

    fn csv(&self) -> String {
        let mut text = String::from("kernel,case,bytes,flops,us,spread_us,gb_s,tflop_s,ceiling,percent,dispatches,copies,skipped\n");
        for ceiling in &self.ceilings {
            // a ceiling is the kernel that reaches all of it
            let (gb_s, tflop_s) = match (ceiling.value, ceiling.unit) {
                (Some(value), "GB/s") => (value.to_string(), String::new()),
                (Some(value), _) => (String::new(), value.to_string()),
                (None, _) => Default::default(),
            };
            let skipped = quoted(ceiling.skipped.as_deref().unwrap_or_default());
            text += &format!("ceiling,{},,,,,{gb_s},{tflop_s},,,,,{skipped}\n", quoted(ceiling.name));
        }
        for row in &self.results {
            text += &format!(
                "{},{},{},{},{:.4},{:.4},{:.3},{:.5},{},{:.2},{},{},{}\n",
                row.kernel,
                quoted(&row.case),
                row.bytes,
                row.flops,
                row.us,
                row.spread_us,
                row.gb_s,
                row.tflop_s,
                row.ceiling,
                row.percent,
                row.dispatches,
                row.copies,
                quoted(row.skipped.as_deref().unwrap_or_default())
            );
        }
        text
    }

    fn json_lines(&self) -> Result<String> {
        let mut text = String::new();
        for ceiling in &self.ceilings {
            text += &(serde_json::to_string(ceiling)? + "\n");
        }
        for row in &self.results {
            text += &(serde_json::to_string(row)? + "\n");
        }
        Ok(text)
    }
}

/// A row of the table for people.
pub(in super::super) fn cells(row: &Row) -> Vec<String> {
    let mut cells = vec![row.kernel.to_owned(), row.case.clone()];
    if let Some(reason) = &row.skipped {
        cells.extend(["-", "-", "-", "-", "-"].map(str::to_owned));
        cells.push(format!("skipped: {reason}"));
        return cells;
    }
    let tflop_s = if row.flops == 0 { "-".into() } else { significant(row.tflop_s) };
    cells.extend([
        significant(row.us),
        significant(row.spread_us),
        significant(row.gb_s),
        tflop_s,
        format!("{:.1}", row.percent),
        row.ceiling.to_owned(),
    ]);
    cells
}

/// Three significant digits, all before the point.
pub(in super::super) fn significant(value: f64) -> String {
    let digits = if value <= 0.0 {
        1
    } else {
        (2 - value.log10().floor() as i32).clamp(0, 6)
    };
    format!("{value:.*}", digits as usize)
}

#[cfg(test)]
mod tests {
    use super::significant;

    #[test]
    fn figures_keep_three_digits() {
        let texts = [3051.2, 12.345, 1.0, 0.04567, 0.0].map(significant);
        assert_eq!(texts, ["3051", "12.3", "1.00", "0.0457", "0.0"]);
    }
}
