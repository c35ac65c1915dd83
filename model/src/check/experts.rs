//! The operations of a mixture of experts. Where a token goes follows from logits that may lie close together, so the choice is
//! compared with that of the logits as they were computed, and what comes after it with the choice as it was made.

use qwgpu_runtime::{
    Matrix,
    kernels::{group_experts, matmul, router, silu_mul},
};

use super::{Check, Checked, U, bytes_tolerance, halves_tolerance, step::Normed, sum_tolerance, swiglu_tolerance};
use crate::{Result, Trace, config::Moe, weights::Experts};

/// What the router said, and the shape of the layer.
struct Routed<'a> {
    moe: &'a Moe,
    logits: &'a Trace,
    chosen: &'a Trace,
    factors: &'a Trace,
}

impl Routed<'_> {
    /// The expert in a slot of a token.
    fn expert(&self, t: usize, slot: usize) -> usize {
        match slot.checked_sub(self.chosen.cols) {
            None => Check::row(self.chosen, t)[slot] as usize,
            Some(slice) => self.moe.n_experts + slice,
        }
    }

    /// Its weight.
    fn factor(&self, t: usize, slot: usize) -> f64 {
        f64::from(Check::row(self.factors, t)[slot.min(self.chosen.cols)])
    }
}

impl<'a> Check<'a> {
    /// All of a sparse layer's second half.
    pub(super) fn mixture(&mut self, layer: usize, w: &Experts, norm: &[f32]) -> Result<()> {
        let [logits, chosen, factors] = ["router_logits", "topk_ids", "topk_weights"].map(|name| self.trace(layer, name));
        let moe = self.config.experts(layer).expect("the layer is sparse");
        let routed = Routed {
            moe,
            logits,
            chosen,
            factors,
        };
        self.router_logits(layer, w, norm, &routed)?;
        self.choice(layer, &routed);
        if self.has(layer, "pairs") {
            self.norm(layer, "post_norm", (layer, "attn_residual"), norm);
            self.groups(layer, &routed);
            self.grouped_products(layer, w, &routed)?;
            self.combination(layer, &routed);
        } else {
            self.step_experts(layer, w, norm, &routed)?;
        }
        Ok(())
    }

    fn router_logits(&mut self, layer: usize, w: &Experts, norm: &[f32], routed: &Routed<'a>) -> Result<()> {
        let x = self.trace(layer, "attn_residual");
        let mut checked = Checked::new(layer, "router_logits");
        for _ in 0..self.n_samples {
            let (t, e) = (self.picker.below(x.rows), self.picker.below(routed.logits.cols));
            let normed = Normed::new(Self::row(x, t), norm, self.config.rms_norm_eps);
            let (value, tolerance) = normed.product(&w.router.read_row(self.gpu, e)?, 0.0);
            checked.compare(Self::row(routed.logits, t)[e], value, tolerance);
        }
        self.checked.push(checked);
        Ok(())
    }

    /// Ids and weights of every token.
    fn choice(&mut self, layer: usize, routed: &Routed<'a>) {
        let mut checked = ["topk_ids", "topk_weights"].map(|name| Checked::new(layer, name));
        for t in 0..routed.chosen.rows {
            let logits = Self::row(routed.logits, t);
            let expected = router::reference(logits, routed.chosen.cols, routed.moe.norm_topk);
            let range = logits.iter().fold(0.0f32, |max, logit| max.max(logit.abs()));
            for (&found, &id) in Self::row(routed.chosen, t).iter().zip(&expected.experts) {
                checked[0].compare(found, f64::from(id), 0.5);
            }
            for (&found, &weight) in Self::row(routed.factors, t).iter().zip(&expected.factors) {
                // exp of a difference of two logits, and sums of such
                checked[1].compare(found, weight, (32.0 + 16.0 * f64::from(range)) * U * weight + 1e-30);
            }
        }
        self.checked.extend(checked);
    }

    /// Every pair's place, and where each expert's begin.
    fn groups(&mut self, layer: usize, routed: &Routed<'a>) {
        let chosen: Vec<u32> = routed.chosen.values.iter().map(|&id| id as u32).collect();
        let (pairs, offsets) = group_experts::reference(&chosen, routed.chosen.cols, routed.moe.n_experts, routed.moe.n_shared());
        for (name, expected) in [("pairs", pairs), ("offsets", offsets)] {
            let mut checked = Checked::new(layer, name);
            for (&found, expected) in self.trace(layer, name).values.iter().zip(expected) {
                checked.compare(found, f64::from(expected), 0.5);
            }
            self.checked.push(checked);
        }
    }

    /// Both products of many rows, and what lies between.
    fn grouped_products(&mut self, layer: usize, w: &Experts, routed: &Routed<'a>) -> Result<()> {
        let pairs = self.trace(layer, "pairs");
        let [normed, gate_up, swiglu, out] =
            ["post_norm", "experts_gate_up", "experts_swiglu", "experts_out"].map(|name| self.trace(layer, name));
        let f = swiglu.cols;
        let mut checked = ["experts_gate_up", "experts_swiglu", "experts_out"].map(|name| Checked::new(layer, name));
        for _ in 0..self.n_samples {
            let place = self.picker.below(pairs.cols);
            let pair = pairs.values[place] as usize;
            let (t, slot) = (pair / routed.moe.n_slots(), pair % routed.moe.n_slots());
            let expert = routed.expert(t, slot);

            let r = self.picker.below(2 * f);
            let (value, tolerance) = self.of_many(&w.gate_up, expert * 2 * f + r, Self::row(normed, t))?;
            checked[0].compare(Self::row(gate_up, place)[r], value, tolerance);

            let (d, row) = (self.picker.below(f), Self::row(gate_up, place));
            let (gate, up) = ((f64::from(row[d]), 0.0), (f64::from(row[d + f]), 0.0));
            let expected = silu_mul::silu(gate.0) * up.0;
            checked[1].compare(Self::row(swiglu, place)[d], expected, swiglu_tolerance(gate, up));

            let r = self.picker.below(out.cols);
            let (value, tolerance) = self.of_many(&w.down, expert * out.cols + r, Self::row(swiglu, place))?;
            checked[2].compare(Self::row(out, pair)[r], value, tolerance);
        }
        self.checked.extend(checked);
        Ok(())
    }

    /// One output of the grouped product, and what rounding explains of its error.
    fn of_many(&self, weights: &Matrix, row: usize, x: &[f32]) -> Result<(f64, f64)> {
        let row = weights.read_row(self.gpu, row)?;
        let magnitude: f64 = row.iter().zip(x).map(|(w, x)| f64::from(w * x).abs()).sum();
        let mut tolerance = sum_tolerance(x.len(), magnitude);
        if self.matmul.has_coop() {
            tolerance += halves_tolerance(&row, x);
        }
        Ok((matmul::reference(&row, x), tolerance))
    }

    /// One output of a step's gate or up, and what rounding explains of its error.
    fn of_normed(&self, weights: &Matrix, row: usize, normed: &Normed<'_>) -> Result<(f64, f64)> {
        let row = weights.read_row(self.gpu, row)?;
        Ok(if self.takes_bytes(weights) {
            normed.product_of_bytes(&row, 0.0)
        } else {
            normed.product(&row, 0.0)
        })
    }

    fn takes_bytes(&self, experts: &Matrix) -> bool {
        self.experts.is_some_and(|kernels| kernels.takes_bytes(experts))
    }

    /// The weighted sum into the residual stream.
    fn combination(&mut self, layer: usize, routed: &Routed<'a>) {
        let [residual, out] = ["attn_residual", "experts_out"].map(|name| self.trace(layer, name));
        let hidden = self.trace(layer + 1, "hidden");
        let n_slots = routed.moe.n_slots();
        let mut checked = Checked::new(layer, "mixture");
        for _ in 0..self.n_samples {
            let (t, d) = (self.picker.below(hidden.rows), self.picker.below(hidden.cols));
            let terms = (0..n_slots).map(|slot| routed.factor(t, slot) * f64::from(Self::row(out, t * n_slots + slot)[d]));
            let (sum, magnitude) = terms.fold((0.0, 0.0), |(sum, magnitude), term| (sum + term, magnitude + term.abs()));
            let added = f64::from(Self::row(residual, t)[d]);
            checked.compare(
                Self::row(hidden, t)[d],
                sum + added,
                sum_tolerance(n_slots + 1, magnitude + added.abs()),
            );
        }
        self.checked.push(checked);
    }

    /// The two kernels of a one-token step.
    fn step_experts(&mut self, layer: usize, w: &Experts, norm: &[f32], routed: &Routed<'a>) -> Result<()> {
        let [x, swiglu] = ["attn_residual", "experts_swiglu"].map(|name| self.trace(layer, name));
        let hidden = self.trace(layer + 1, "hidden");
        let normed = Normed::new(Self::row(x, 0), norm, self.config.rms_norm_eps);
        let (f, d_model) = (swiglu.cols, hidden.cols);
        let mut checked = ["experts_swiglu", "mixture"].map(|name| Checked::new(layer, name));
        for _ in 0..self.n_samples {
            let (slot, d) = (self.picker.below(swiglu.rows), self.picker.below(f));
            let first = routed.expert(0, slot) * 2 * f;
            let gate = self.of_normed(&w.gate_up, first + d, &normed)?;
            let up = self.of_normed(&w.gate_up, first + f + d, &normed)?;
            let expected = silu_mul::silu(gate.0) * up.0;
            checked[0].compare(Self::row(swiglu, slot)[d], expected, swiglu_tolerance(gate, up));

            let r = self.picker.below(d_model);
            let residual = f64::from(Self::row(x, 0)[r]);
            let (mut value, mut magnitude, mut rounding) = (residual, 0.0, 0.0);
            for slot in 0..swiglu.rows {
                let row = w.down.read_row(self.gpu, routed.expert(0, slot) * d_model + r)?;
                let inputs = Self::row(swiglu, slot);
                let factor = routed.factor(0, slot);
                value += factor * matmul::reference(&row, inputs);
                magnitude += factor * row.iter().zip(inputs).map(|(w, x)| f64::from(w * x).abs()).sum::<f64>();
                if self.takes_bytes(&w.down) {
                    rounding += factor * bytes_tolerance(&row, inputs);
                }
            }
            let tolerance = sum_tolerance(f * swiglu.rows, magnitude) + 4.0 * U * residual.abs() + rounding;
            checked[1].compare(Self::row(hidden, 0)[r], value, tolerance);
        }
        self.checked.extend(checked);
        Ok(())
    }
}
