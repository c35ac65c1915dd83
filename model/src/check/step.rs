//! The operations of a one-token step, whose kernels keep the norm and the products to themselves: each is recomputed from the
//! residual stream that it reads to the values that it leaves.

use qwgpu_runtime::{
    Matrix,
    kernels::{norm_qkv_rope, rms_norm, silu_mul},
};

use super::{Check, Checked, U, bytes_tolerance, sum_tolerance, swiglu_tolerance};
use crate::{
    Result,
    rope::{attention_factor, inv_freq},
    weights::LayerWeights,
};

/// A recomputed value and what rounding explains of its error.
type Estimate = (f64, f64);

/// Products with one normalised vector.
pub(super) struct Normed<'a> {
    x: &'a [f32],
    norm: &'a [f32],
    eps: f32,
    /// x after the norm
    values: Vec<f64>,
}

impl<'a> Normed<'a> {
    pub(super) fn new(x: &'a [f32], norm: &'a [f32], eps: f32) -> Self {
        let values = rms_norm::reference(x, norm, eps);
        Self { x, norm, eps, values }
    }

    pub(super) fn product(&self, row: &[f32], bias: f32) -> Estimate {
        let value = norm_qkv_rope::reference([(row, bias)], self.x, self.norm, self.eps)[0];
        let magnitude: f64 = row.iter().zip(&self.values).map(|(&w, x)| (f64::from(w) * x).abs()).sum();
        // the sum of products and the sum of squares
        (value, 2.0 * sum_tolerance(row.len(), magnitude) + 4.0 * U * f64::from(bias).abs())
    }

    /// The product with the vector as it was rounded to bytes.
    pub(super) fn product_of_bytes(&self, row: &[f32], bias: f32) -> Estimate {
        let (value, error) = self.product(row, bias);
        let values: Vec<f32> = self.values.iter().map(|&x| x as f32).collect();
        (value, error + bytes_tolerance(row, &values))
    }
}

impl Check<'_> {
    /// q, k and v of the one token, from the residual stream.
    pub(super) fn step_heads(&mut self, layer: usize, w: &LayerWeights) -> Result<()> {
        let c = self.config;
        let pos = self.first_pos;
        let [x, q, k, v] = ["hidden", "q_rope", "k_cache", "v_cache"].map(|name| self.trace(layer, name));
        let (norm, bias) = (w.input_norm.read_f32(self.gpu)?, w.qkv_bias.read_f32(self.gpu)?);
        let normed = Normed::new(Self::row(x, 0), &norm, c.rms_norm_eps);
        let takes_bytes = self.qkv_rope.takes_bytes(&w.qkv);
        let (inv_freq, factor) = (inv_freq(c), attention_factor(c));
        let projected = |head: usize, d: usize| -> Result<Estimate> {
            let row = head * c.head_dim + d;
            let (weights, bias) = (w.qkv.read_row(self.gpu, row)?, bias[row]);
            Ok(if takes_bytes {
                normed.product_of_bytes(&weights, bias)
            } else {
                normed.product(&weights, bias)
            })
        };
        let turned = |head: usize, d: usize| -> Result<Estimate> {
            let half = c.head_dim / 2;
            let ((a, error_a), (b, error_b)) = (projected(head, d % half)?, projected(head, d % half + half)?);
            let (sin, cos) = (pos as f64 * inv_freq[d % half]).sin_cos();
            let value = if d < half { a * cos - b * sin } else { b * cos + a * sin };
            // cos and sin as in `rope`
            Ok((value * factor, factor * (error_a + error_b + 10.0 * U * a.hypot(b))))
        };
        let mut checked = ["q_rope", "k_cache", "v_cache"].map(|name| Checked::new(layer, name));
        for _ in 0..self.n_samples {
            let d = self.picker.below(c.head_dim);
            let (head, kv_head) = (self.picker.below(c.n_heads), self.picker.below(c.n_kv_heads));
            let (value, error) = turned(head, d)?;
            checked[0].compare(Self::row(q, 0)[head * c.head_dim + d], value, error);
            let (value, error) = turned(c.n_heads + kv_head, d)?;
            checked[1].compare(self.cached(k, pos, kv_head)[d], value, error + self.storage(value));
            let (value, error) = projected(c.n_heads + c.n_kv_heads + kv_head, d)?;
            checked[2].compare(self.cached(v, pos, kv_head)[d], value, error + self.storage(value));
        }
        self.checked.extend(checked);
        Ok(())
    }

    /// The logits, from the residual stream: where their product takes bytes, which the norm then leaves.
    pub(super) fn step_head(&mut self, n_layers: usize, head: &Matrix, norm: &[f32]) -> Result<()> {
        let (x, out) = (self.trace(n_layers, "hidden"), self.trace(n_layers, "logits"));
        let normed = Normed::new(Self::row(x, 0), norm, self.config.rms_norm_eps);
        let mut checked = Checked::new(n_layers, "logits");
        for _ in 0..self.n_samples {
            let r = self.picker.below(out.cols);
            let (expected, tolerance) = normed.product_of_bytes(&head.read_row(self.gpu, r)?, 0.0);
            checked.compare(Self::row(out, 0)[r], expected, tolerance);
        }
        self.checked.push(checked);
        Ok(())
    }

    /// What goes into `down`, from the residual stream.
    pub(super) fn step_swiglu(&mut self, layer: usize, gate_up: &Matrix, norm: &[f32]) -> Result<()> {
        let (x, out) = (self.trace(layer, "attn_residual"), self.trace(layer, "swiglu"));
        let normed = Normed::new(Self::row(x, 0), norm, self.config.rms_norm_eps);
        let takes_bytes = self.gate_up.takes_bytes(gate_up);
        let product = |row: &[f32]| {
            if takes_bytes {
                normed.product_of_bytes(row, 0.0)
            } else {
                normed.product(row, 0.0)
            }
        };
        let mut checked = Checked::new(layer, "swiglu");
        for _ in 0..self.n_samples {
            let d = self.picker.below(out.cols);
            let gate = product(&gate_up.read_row(self.gpu, d)?);
            let up = product(&gate_up.read_row(self.gpu, d + out.cols)?);
            let expected = silu_mul::silu(gate.0) * up.0;
            checked.compare(Self::row(out, 0)[d], expected, swiglu_tolerance(gate, up));
        }
        self.checked.push(checked);
        Ok(())
    }
}
