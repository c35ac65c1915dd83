//! Checking a model on the adapter at hand against f64, one operation at a time and end to end.
//!
//! [`operations`] recomputes sampled outputs of every operation from that operation's own GPU inputs, so that an error cannot hide
//! behind another. [`end_to_end`] runs a whole (small) model in plain f64 loops.

use qwgpu_runtime::{
    BLOCK, Elem, Gpu, Matrix, Tensor,
    kernels::{
        attention::{self, Attention, MAX_SPLIT_ROWS},
        fill_random,
        matmul::{self, Matmul},
        matvec::MAX_TOKENS,
        rms_norm, rope, silu_mul,
    },
};

use crate::{
    Result, Session, Trace,
    config::Config,
    rope::{attention_factor, inv_freq},
};

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
        attention: &model.kernels.attention,
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
        if fused {
            check.step_swiglu(layer, &w.gate_up, &norms[1])?;
        } else {
            check.norm(layer, "post_norm", (layer, "attn_residual"), &norms[1]);
            check.product(layer, "gate_up", "post_norm", &w.gate_up, None, None)?;
            check.swiglu(layer);
        }
        check.product(layer, "down", "swiglu", &w.down, None, Some((layer, "attn_residual")))?;
    }
    let final_norm = model.weights.final_norm.read_f32(&model.gpu)?;
    check.norm(n_layers, "final_norm", (n_layers, "hidden"), &final_norm);
    check.product(n_layers, "logits", "final_norm", model.weights.head(), None, None)?;
    Ok(check.checked)
}

struct Check<'a> {
    gpu: &'a Gpu,
    config: &'a Config,
    kv: Elem,
    matmul: &'a Matmul,
    attention: &'a Attention,
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

    fn embed(&mut self, embed: &Matrix, ids: &[u32]) -> Result<()> {
        let out = self.trace(0, "hidden");
        let mut checked = Checked::new(0, "embed");
        for _ in 0..self.n_samples {
            let (t, d) = (self.picker.below(out.rows), self.picker.below(out.cols));
            let weights = embed.read_row(self.gpu, ids[t] as usize)?;
            // widening is exact, but a driver may flush denormals
            checked.compare(Self::row(out, t)[d], f64::from(weights[d]), f64::from(f32::MIN_POSITIVE));
        }
        self.checked.push(checked);
        Ok(())
    }

    fn norm(&mut self, layer: usize, name: &'static str, input: (usize, &str), weight: &[f32]) {
        let (x, out) = (self.trace(input.0, input.1), self.trace(layer, name));
        let mut checked = Checked::new(layer, name);
        for _ in 0..self.n_samples {
            let (t, d) = (self.picker.below(out.rows), self.picker.below(out.cols));
            let expected = rms_norm::reference(Self::row(x, t), weight, self.config.rms_norm_eps)[d];
            // the sum of squares, its root, a division and two products
            checked.compare(Self::row(out, t)[d], expected, sum_tolerance(x.cols, expected.abs()));
        }
        self.checked.push(checked);
    }

    fn product(
        &mut self,
        layer: usize,
        name: &'static str,
        input: &str,
        weights: &Matrix,
        bias: Option<&Tensor>,
        residual: Option<(usize, &str)>,
    ) -> Result<()> {
        let x = self.trace(layer, input);
        let out = if name == "down" {
            self.trace(layer + 1, "hidden")
        } else {
            self.trace(layer, name)
        };
        let bias = bias.map(|bias| bias.read_f32(self.gpu)).transpose()?;
        let residual = residual.map(|(layer, name)| self.trace(layer, name));
        let mut checked = Checked::new(layer, name);
        for _ in 0..self.n_samples {
            let (t, r) = (self.picker.below(out.rows), self.picker.below(out.cols));
            let (row, x) = (weights.read_row(self.gpu, r)?, Self::row(x, t));
            let mut added = bias.as_ref().map_or(0.0, |bias| f64::from(bias[r]));
            added += residual.map_or(0.0, |residual| f64::from(Self::row(residual, t)[r]));
            let expected = matmul::reference(&row, x) + added;
            let magnitude: f64 = row.iter().zip(x).map(|(w, x)| f64::from(w * x).abs()).sum();
            let mut tolerance = sum_tolerance(x.len(), magnitude) + 4.0 * U * added.abs();
            if out.rows == 1 && self.matmul.takes_bytes(weights) {
                tolerance += bytes_tolerance(&row, x);
            }
            if out.rows > MAX_TOKENS && self.matmul.has_coop() {
                tolerance += halves_tolerance(&row, x);
            }
            checked.compare(Self::row(out, t)[r], expected, tolerance);
        }
        self.checked.push(checked);
        Ok(())
    }

    /// Position `pos` of kv head `head`: the session's blocks lie in order, 64 positions each.
    fn cached(&self, cache: &'a Trace, pos: usize, head: usize) -> &'a [f32] {
        let (block, in_block) = (pos / qwgpu_runtime::KV_BLOCK as usize, pos % qwgpu_runtime::KV_BLOCK as usize);
        let start = (head * qwgpu_runtime::KV_BLOCK as usize + in_block) * self.config.head_dim;
        &Self::row(cache, block)[start..][..self.config.head_dim]
    }

    /// Storage error of a cached value: f16 rounds to 11 bits, and below 2^-14 in steps of 2^-24.
    fn storage(&self, value: f64) -> f64 {
        if self.kv == Elem::F16 {
            value.abs() / 2048.0 + 2f64.powi(-25)
        } else {
            0.0
        }
    }

    fn rope(&mut self, layer: usize) {
        let c = self.config;
        let [qkv, q, k, v] = ["qkv", "q_rope", "k_cache", "v_cache"].map(|name| self.trace(layer, name));
        let (inv_freq, factor) = (inv_freq(c), attention_factor(c));
        let mut checked = [
            Checked::new(layer, "q_rope"),
            Checked::new(layer, "k_cache"),
            Checked::new(layer, "v_cache"),
        ];
        for _ in 0..self.n_samples {
            let (t, d) = (self.picker.below(qkv.rows), self.picker.below(c.head_dim));
            let pos = self.first_pos + t;
            let (head, kv_head) = (self.picker.below(c.n_heads), self.picker.below(c.n_kv_heads));
            let source = |head: usize| &Self::row(qkv, t)[head * c.head_dim..][..c.head_dim];
            // cos and sin carry up to 5 u each (two rounded tables, two products, a sum), both members of the pair take their share
            let half = c.head_dim / 2;
            let pair = |head: &[f32]| 10.0 * U * factor * f64::from(head[d % half]).hypot(f64::from(head[d % half + half]));
            let turned = rope::reference(source(head), pos as u32, &inv_freq, factor)[d];
            checked[0].compare(Self::row(q, t)[head * c.head_dim + d], turned, pair(source(head)));
            let key = source(c.n_heads + kv_head);
            let turned = rope::reference(key, pos as u32, &inv_freq, factor)[d];
            checked[1].compare(self.cached(k, pos, kv_head)[d], turned, pair(key) + self.storage(turned));
            let value = f64::from(source(c.n_heads + c.n_kv_heads + kv_head)[d]);
            checked[2].compare(
                self.cached(v, pos, kv_head)[d],
                value,
                f64::from(f32::MIN_POSITIVE) + self.storage(value),
            );
        }
        self.checked.extend(checked);
    }

    fn attention(&mut self, layer: usize) {
        let c = self.config;
        let [q, k, v, out] = ["q_rope", "k_cache", "v_cache", "attn_context"].map(|name| self.trace(layer, name));
        let scale = 1.0 / (c.head_dim as f32).sqrt();
        let mut checked = Checked::new(layer, "attn_context");
        for _ in 0..self.n_samples {
            let (t, head, d) = (
                self.picker.below(q.rows),
                self.picker.below(c.n_heads),
                self.picker.below(c.head_dim),
            );
            let last = self.first_pos + t;
            let first = c.windows[layer].map_or(0, |window| (last + 1).saturating_sub(window));
            let gather = |cache: &'a Trace| -> Vec<f32> {
                (first..=last)
                    .flat_map(|pos| self.cached(cache, pos, head / c.group_size()))
                    .copied()
                    .collect()
            };
            let (keys, values) = (gather(k), gather(v));
            let query = &Self::row(q, t)[head * c.head_dim..][..c.head_dim];
            let expected = attention::reference(query, &keys, &values, scale)[d];
            // an error of e in a score changes its weight by the factor e^e
            let longest = |xs: &[f32]| xs.chunks_exact(c.head_dim).map(norm).fold(0.0, f64::max);
            let score = sum_tolerance(c.head_dim, norm(query) * longest(&keys) * f64::from(scale));
            let largest = values.iter().map(|&v| f64::from(v).abs()).fold(0.0, f64::max);
            // on matrix units queries and exponentials are f16: 2^-11 of each product of a score, and of each weight
            let halves = if q.rows > MAX_SPLIT_ROWS && self.attention.has_coop() {
                let products = norm(query) * longest(&keys) * f64::from(scale) / (c.head_dim as f64).sqrt();
                2.0 * largest * (1.0 + 4.0 * products) / 2048.0
            } else {
                0.0
            };
            checked.compare(
                Self::row(out, t)[head * c.head_dim + d],
                expected,
                2.0 * score * largest + sum_tolerance(last + 1, largest) + halves,
            );
        }
        self.checked.push(checked);
    }

    fn swiglu(&mut self, layer: usize) {
        let (gate_up, out) = (self.trace(layer, "gate_up"), self.trace(layer, "swiglu"));
        let mut checked = Checked::new(layer, "swiglu");
        for _ in 0..self.n_samples {
            let (t, d) = (self.picker.below(out.rows), self.picker.below(out.cols));
            let row = Self::row(gate_up, t);
            let expected = silu_mul::reference(row[d], row[d + out.cols]);
            // WGSL grants exp an error of 3 + 2 |x| units in the last place (WGSL, 15.7.4.1)
            let tolerance = (16.0 + 4.0 * f64::from(row[d]).abs()) * U * expected.abs() + 1e-30;
            checked.compare(Self::row(out, t)[d], expected, tolerance);
        }
        self.checked.push(checked);
    }
}

fn norm(x: &[f32]) -> f64 {
    x.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt()
}
