//! How far off a result is, and where in the forward pass it went astray.

use qwgpu_model::Trace;

use crate::golden::{Golden, Values};

/// Allowed error of f32 arithmetic, relative to the largest golden value; rounding is below a tenth of it, mistakes above ten times it.
pub(crate) const F32_TOLERANCE: f32 = 1e-3;
/// Allowed absolute error of a logit with f16 keys and values; f16 arithmetic throughout strays by 0.12 at most.
pub(crate) const F16_TOLERANCE: f32 = 0.3;
/// Allowed difference, relative to the largest value, between two ways to compute the same in f32.
pub(crate) const ROUNDING: f32 = 1e-4;

/// The largest difference between two tensors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Difference {
    /// Its size; infinite when a value is not a number.
    pub(crate) absolute: f32,
    /// Its size as a fraction of the largest expected value.
    pub(crate) relative: f32,
    row: usize,
    col: usize,
    got: f32,
    expected: f32,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            absolute,
            relative,
            row,
            col,
            got,
            expected,
        } = self;
        write!(
            f,
            "{absolute:.2e}, relative {relative:.1e}, at row {row} column {col}: {got} instead of {expected}"
        )
    }
}

/// Compares rows of `cols` values.
pub(crate) fn compare(got: &[f32], expected: &[f32], cols: usize) -> Difference {
    assert_eq!(got.len(), expected.len(), "as many values as expected");
    let error = |i: usize| {
        let error = (got[i] - expected[i]).abs();
        if error.is_nan() { f32::INFINITY } else { error }
    };
    let worst = (0..got.len())
        .max_by(|&a, &b| error(a).total_cmp(&error(b)))
        .expect("at least one value");
    let largest = expected.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    Difference {
        absolute: error(worst),
        relative: if error(worst) == 0.0 { 0.0 } else { error(worst) / largest },
        row: worst / cols,
        col: worst % cols,
        got: got[worst],
        expected: expected[worst],
    }
}

/// The largest difference of each stage of the forward pass that this case has golden values for, in the order of execution.
pub(crate) fn stages(golden: &Golden, traces: &[Trace]) -> Vec<(String, Difference)> {
    let n_layers = golden.checkpoint.config().n_layers;
    let mut stages: Vec<(String, Difference)> = Vec::new();
    let stage = |stages: &mut Vec<_>, layer: usize, name: &'static str, expected: Option<Values>| {
        let Some(expected) = expected else { return };
        let got = rows_of(traces, layer, name);
        let label = if name == "hidden" {
            format!("hidden.{layer}")
        } else {
            format!("layer {layer}, {name}")
        };
        assert_eq!(got.len(), expected.values.len(), "{}: {label}: traced values", golden.name);
        stages.push((label, compare(&got, &expected.values, expected.cols)));
    };
    for layer in 0..n_layers {
        let traced = |name: &str| golden.tensor(&format!("trace.layer{layer}.{name}"));
        stage(&mut stages, layer, "hidden", copy(golden.tensor(&format!("hidden.{layer}"))));
        stage(&mut stages, layer, "input_norm", copy(traced("input_norm")));
        stage(&mut stages, layer, "qkv", joined(&["q", "k", "v"].map(traced)));
        stage(&mut stages, layer, "q_rope", copy(traced("q_rope")));
        stage(&mut stages, layer, "attn_context", copy(traced("attn_context")));
        stage(
            &mut stages,
            layer,
            "attn_residual",
            sum(golden.tensor(&format!("hidden.{layer}")), traced("attn_out")),
        );
        stage(&mut stages, layer, "post_norm", copy(traced("post_norm")));
        stages.extend(router_stages(golden, traces, layer));
    }
    stage(&mut stages, n_layers, "hidden", copy(golden.tensor(&format!("hidden.{n_layers}"))));
    stage(&mut stages, n_layers, "final_norm", copy(golden.tensor("final_norm")));
    stage(&mut stages, n_layers, "logits", copy(golden.tensor("logits")));
    stages
}

/// The stages of a mixture of experts. The GPU's rows end with the shared expert's gate, and its outputs are those of each expert.
fn router_stages(golden: &Golden, traces: &[Trace], layer: usize) -> Vec<(String, Difference)> {
    let traced = |name: &str| golden.tensor(&format!("trace.layer{layer}.{name}"));
    let mut stages = Vec::new();
    let mut stage = |name: &str, got: Vec<f32>, expected: Option<&Values>| {
        if let Some(expected) = expected {
            stages.push((format!("layer {layer}, {name}"), compare(&got, &expected.values, expected.cols)));
        }
    };
    let Some(logits) = traces.iter().find(|trace| (trace.layer, trace.name) == (layer, "router_logits")) else {
        return stages;
    };
    let n_experts = logits.cols - 1;
    stage(
        "router logits",
        columns(logits, 0..n_experts),
        golden.tensor(&format!("router_logits.{layer}")),
    );
    let find = |name: &str| traces.iter().find(|trace| (trace.layer, trace.name) == (layer, name));
    let (Some(ids), Some(factors), Some(out)) = (find("topk_ids"), find("topk_weights"), find("experts_out")) else {
        panic!("{}: layer {layer} has router logits and no outputs", golden.name)
    };
    let k = ids.cols;
    stage("chosen experts", ids.values.clone(), traced("topk_ids"));
    stage("weights of experts", columns(factors, 0..k), traced("topk_weights"));
    stage("gate of the shared expert", columns(factors, k..k + 1), traced("shared_gate"));
    let n_slots = out.rows / ids.rows;
    let sum = |slots: std::ops::Range<usize>, weight: &dyn Fn(usize, usize) -> f32| -> Vec<f32> {
        let value = |t: usize, d: usize| -> f32 {
            let term = |slot: usize| weight(t, slot) * out.values[(t * n_slots + slot) * out.cols + d];
            slots.clone().map(term).sum()
        };
        (0..ids.rows)
            .flat_map(|t| (0..out.cols).map(move |d| (t, d)))
            .map(|(t, d)| value(t, d))
            .collect()
    };
    let factor = |t: usize, slot: usize| factors.values[t * factors.cols + slot];
    stage("routed experts", sum(0..k, &factor), traced("routed_out"));
    stage("shared expert", sum(k..n_slots, &|_, _| 1.0), traced("shared_out"));
    stages
}

/// Some columns of a trace.
fn columns(trace: &Trace, columns: std::ops::Range<usize>) -> Vec<f32> {
    trace
        .values
        .chunks_exact(trace.cols)
        .flat_map(|row| &row[columns.clone()])
        .copied()
        .collect()
}

/// The first stage that is off by more than `tolerance`, relative, and how all of them compare: what a failing test says.
pub(crate) fn diagnosis(stages: &[(String, Difference)], tolerance: f32) -> String {
    let first = stages.iter().find(|(_, difference)| difference.relative > tolerance);
    let list: Vec<String> = stages
        .iter()
        .map(|(label, difference)| format!("    {label}: {difference}"))
        .collect();
    let first = first.map_or_else(
        || "no traced stage strays".into(),
        |(label, difference)| format!("the first stage to stray is {label} ({difference})"),
    );
    format!("{first}; all stages in order:\n{}", list.join("\n"))
}

/// All rows that were traced under a name: a stage may come in several blocks of rows.
fn rows_of(traces: &[Trace], layer: usize, name: &str) -> Vec<f32> {
    let blocks = traces.iter().filter(|trace| trace.layer == layer && trace.name == name);
    blocks.flat_map(|trace| trace.values.iter().copied()).collect()
}

fn copy(values: Option<&Values>) -> Option<Values> {
    values.map(|Values { cols, values }| Values {
        cols: *cols,
        values: values.clone(),
    })
}

/// Columns of all parts side by side.
fn joined(parts: &[Option<&Values>]) -> Option<Values> {
    let parts: Vec<&Values> = parts.iter().copied().collect::<Option<_>>()?;
    let n_rows = parts[0].values.len() / parts[0].cols;
    let row = |i: usize| {
        parts
            .iter()
            .flat_map(move |part| &part.values[i * part.cols..(i + 1) * part.cols])
            .copied()
    };
    Some(Values {
        cols: parts.iter().map(|part| part.cols).sum(),
        values: (0..n_rows).flat_map(row).collect(),
    })
}

fn sum(a: Option<&Values>, b: Option<&Values>) -> Option<Values> {
    let (a, b) = (a?, b?);
    Some(Values {
        cols: a.cols,
        values: a.values.iter().zip(&b.values).map(|(a, b)| a + b).collect(),
    })
}
