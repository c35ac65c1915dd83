//! Checking a model on the adapter at hand against f64, one operation at a time and end to end.
//!
//! [`operations`] recomputes sampled outputs of every operation from that operation's own GPU inputs, so that an error cannot hide
//! behind another. [`end_to_end`] runs a whole (small) model in plain f64 loops.

use qwgpu_runtime::{
    BLOCK, Elem, Gpu,
    kernels::{attention::Attention, experts::Experts, fill_random, gate_up::StepGateUp, matmul::Matmul, qkv_rope::StepQkv, silu_mul},
};

use crate::{Result, Session, Trace, config::Config, weights::FeedForward};

mod batch;
mod experts;
mod step;
mod whole;

pub use whole::end_to_end;

/// The outcome of one operation in one layer.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Layer; the number of layers for the head.
    pub layer: usize,
    /// What was checked.
    pub operation: &'static str,
    /// Outputs compared.
    pub n_samples: usize,
    /// Largest error over what rounding explains; above 1 is a fault. NaN counts as infinite.
    pub worst: f64,
}

impl Checked {
    fn new(layer: usize, operation: &'static str) -> Self {
        Self {
            layer,
            operation,
            n_samples: 0,
            worst: 0.0,
        }
    }

    /// Compares one output; `tolerance` is what f32 arithmetic and the storage of the result explain.
    fn compare(&mut self, found: f32, expected: f64, tolerance: f64) {
        let ratio = (f64::from(found) - expected).abs() / tolerance.max(f64::MIN_POSITIVE);
        self.n_samples += 1;
        self.worst = self.worst.max(if ratio.is_nan() { f64::INFINITY } else { ratio });
    }

    /// Whether all outputs were within tolerance, and there were any.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.n_samples > 0 && self.worst <= 1.0
    }
}

/// f32's unit roundoff, 2^-24.
const U: f64 = 1.0 / 16_777_216.0;

/// What rounding explains in a sum of `n` f32 products whose magnitudes add up to `magnitude`.
///
/// The worst case is n u (Higham, Accuracy and Stability, 3.1); rounding errors behave as random, so sqrt(n) u is expected, and
/// eight times that is allowed.
fn sum_tolerance(n: usize, magnitude: f64) -> f64 {
    8.0 * (n as f64).sqrt() * U * magnitude
}

/// What rounding explains in `silu(gate) * up`, when gate and up may be off by so much themselves: silu's slope stays below 1.1, and WGSL grants exp
/// an error of 3 + 2 |x| units in the last place (WGSL, 15.7.4.1).
fn swiglu_tolerance((gate, gate_error): (f64, f64), (up, up_error): (f64, f64)) -> f64 {
    let silu = silu_mul::silu(gate);
    let inputs = 1.1 * gate_error * (up.abs() + up_error) + silu.abs() * up_error;
    inputs + (16.0 + 4.0 * gate.abs()) * U * (silu * up).abs() + 1e-30
}

/// What rounding x to bytes explains: half a step of each element, a 127th of the largest of its block. The errors are as good as
/// random and uniform, with a deviation of a step over sqrt(12); five deviations of their sum are allowed.
fn bytes_tolerance(weights: &[f32], x: &[f32]) -> f64 {
    let blocks = weights.chunks(BLOCK).zip(x.chunks(BLOCK));
    let variance = blocks.map(|(weights, x)| {
        let step = f64::from(x.iter().fold(0.0f32, |max, x| max.max(x.abs()))) / 127.0;
        weights.iter().map(|&w| (f64::from(w) * step).powi(2)).sum::<f64>() / 12.0
    });
    5.0 * variance.sum::<f64>().sqrt()
}

/// What rounding both operands to f16 explains: up to 2^-11 of each product twice, as good as random and uniform; five deviations of
/// their sum are allowed.
fn halves_tolerance(weights: &[f32], x: &[f32]) -> f64 {
    let squares = weights.iter().zip(x).map(|(w, x)| f64::from(w * x).powi(2));
    5.0 * (squares.sum::<f64>() * 2.0 / 3.0).sqrt() / 2048.0
}

/// Reproducible sample positions.
struct Picker {
    state: u32,
}

impl Picker {
    fn below(&mut self, n: usize) -> usize {
        self.state += 1;
        let unit = (f64::from(fill_random::reference(0x5eed, self.state)) + 1.0) / 2.0;
        ((unit * n as f64) as usize).min(n - 1)
    }
}

/// Recomputes `n_samples` outputs of every operation in the first, middle and last layer and in the head, while `ids` are fed to an
/// empty session.
///
/// # Errors
/// As [`Session::trace`].
pub fn operations(session: &mut Session, ids: &[u32], n_samples: usize) -> Result<Vec<Checked>> {
    session.rewind(0);
    next_operations(session, ids, n_samples)
}

/// The same for a step of one token, the last of `ids`, after the others were fed.
///
/// # Errors
/// As [`Session::feed`].
pub fn step_operations(session: &mut Session, ids: &[u32], n_samples: usize) -> Result<Vec<Checked>> {
    let (before, last) = ids.split_at(ids.len().saturating_sub(1));
    session.rewind(0);
    if !before.is_empty() {
        session.feed(before)?;
    }
    next_operations(session, last, n_samples)
}

fn next_operations(session: &mut Session, ids: &[u32], n_samples: usize) -> Result<Vec<Checked>> {
    let n_layers = session.model().config().n_layers;
    let mut layers = vec![0, n_layers / 2, n_layers - 1];
    layers.dedup();
    // a layer's input and output are the residual streams around it
    let mut traced: Vec<usize> = layers.iter().flat_map(|&i| [i, i + 1]).collect();
    traced.dedup();
    let first_pos = session.ids().len();
    let traces = session.trace_layers(ids, Some(&traced))?;
    let model = session.model().clone();
    let mut check = Check {
        gpu: model.gpu(),
        config: model.config(),
        kv: model.kv(),
        matmul: &model.kernels.matmul,
        qkv_rope: &model.kernels.qkv_rope,
        gate_up: &model.kernels.gate_up,
        attention: &model.kernels.attention,
        experts: model.kernels.experts.as_ref(),
        traces: &traces,
        first_pos,
        n_samples,
        picker: Picker { state: 0 },
        checked: Vec::new(),
    };
    check.embed(&model.weights.embed, ids)?;
    for layer in layers {
        let w = &model.weights.layers[layer];
        let norms = [w.input_norm.read_f32(&model.gpu)?, w.post_norm.read_f32(&model.gpu)?];
        // a step of one token keeps what lies between to itself
        let fused = !check.has(layer, "input_norm");
        if fused {
            check.step_heads(layer, w)?;
        } else {
            check.norm(layer, "input_norm", (layer, "hidden"), &norms[0]);
            check.product(layer, "qkv", "input_norm", &w.qkv, Some(&w.qkv_bias), None)?;
            check.rope(layer);
        }
        check.attention(layer);
        check.product(layer, "attn_residual", "attn_context", &w.o, None, Some((layer, "hidden")))?;
        match &w.feed_forward {
            FeedForward::Dense(w) => {
                if fused {
                    check.step_swiglu(layer, &w.gate_up, &norms[1])?;
                } else {
                    check.norm(layer, "post_norm", (layer, "attn_residual"), &norms[1]);
                    check.product(layer, "gate_up", "post_norm", &w.gate_up, None, None)?;
                    check.swiglu(layer);
                }
                check.product(layer, "down", "swiglu", &w.down, None, Some((layer, "attn_residual")))?;
            }
            FeedForward::Sparse(w) => check.mixture(layer, w, &norms[1])?,
        }
    }
    let final_norm = model.weights.final_norm.read_f32(&model.gpu)?;
    if check.has(n_layers, "final_norm") {
        check.norm(n_layers, "final_norm", (n_layers, "hidden"), &final_norm);
        check.product(n_layers, "logits", "final_norm", model.weights.head(), None, None)?;
    } else {
        check.step_head(n_layers, model.weights.head(), &final_norm)?;
    }
    Ok(check.checked)
}

struct Check<'a> {
    gpu: &'a Gpu,
    config: &'a Config,
    kv: Elem,
    matmul: &'a Matmul,
    qkv_rope: &'a StepQkv,
    gate_up: &'a StepGateUp,
    attention: &'a Attention,
    experts: Option<&'a Experts>,
    traces: &'a [Trace],
    /// Position of the first row.
    first_pos: usize,
    n_samples: usize,
    picker: Picker,
    checked: Vec<Checked>,
}

impl<'a> Check<'a> {
    fn has(&self, layer: usize, name: &str) -> bool {
        self.traces.iter().any(|trace| trace.layer == layer && trace.name == name)
    }

    fn trace(&self, layer: usize, name: &str) -> &'a Trace {
        let trace = self.traces.iter().find(|trace| trace.layer == layer && trace.name == name);
        trace.unwrap_or_else(|| panic!("the forward pass no longer taps {name} in layer {layer}"))
    }

    fn row(trace: &'a Trace, row: usize) -> &'a [f32] {
        &trace.values[row * trace.cols..][..trace.cols]
    }
}
