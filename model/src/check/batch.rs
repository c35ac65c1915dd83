//! The operations of a batch, each recomputed from what it read to what it left.

use qwgpu_runtime::{
    Elem, Matrix, Tensor,
    kernels::{attention, matmul, matvec::MAX_TOKENS, rms_norm, rope, silu_mul},
};

use super::{Check, Checked, U, bytes_tolerance, halves_tolerance, sum_tolerance, swiglu_tolerance};
use crate::{
    Result, Trace,
    rope::{attention_factor, inv_freq},
};

impl<'a> Check<'a> {
    pub(super) fn embed(&mut self, embed: &Matrix, ids: &[u32]) -> Result<()> {
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

    pub(super) fn norm(&mut self, layer: usize, name: &'static str, input: (usize, &str), weight: &[f32]) {
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

    pub(super) fn product(
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
    pub(super) fn cached(&self, cache: &'a Trace, pos: usize, head: usize) -> &'a [f32] {
        let (block, in_block) = (pos / qwgpu_runtime::KV_BLOCK as usize, pos % qwgpu_runtime::KV_BLOCK as usize);
        let start = (head * qwgpu_runtime::KV_BLOCK as usize + in_block) * self.config.head_dim;
        &Self::row(cache, block)[start..][..self.config.head_dim]
    }

    /// Storage error of a cached value: f16 rounds to 11 bits, and below 2^-14 in steps of 2^-24.
    pub(super) fn storage(&self, value: f64) -> f64 {
        if self.kv == Elem::F16 {
            value.abs() / 2048.0 + 2f64.powi(-25)
        } else {
            0.0
        }
    }

    pub(super) fn rope(&mut self, layer: usize) {
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

    pub(super) fn attention(&mut self, layer: usize) {
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
            let halves = if self.attention.has_coop(q.rows) {
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

    pub(super) fn swiglu(&mut self, layer: usize) {
        let (gate_up, out) = (self.trace(layer, "gate_up"), self.trace(layer, "swiglu"));
        let mut checked = Checked::new(layer, "swiglu");
        for _ in 0..self.n_samples {
            let (t, d) = (self.picker.below(out.rows), self.picker.below(out.cols));
            let row = Self::row(gate_up, t);
            let expected = silu_mul::reference(row[d], row[d + out.cols]);
            let exact = |value: f32| (f64::from(value), 0.0);
            let tolerance = swiglu_tolerance(exact(row[d]), exact(row[d + out.cols]));
            checked.compare(Self::row(out, t)[d], expected, tolerance);
        }
        self.checked.push(checked);
    }
}

fn norm(x: &[f32]) -> f64 {
    x.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt()
}
