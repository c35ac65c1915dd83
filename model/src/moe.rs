//! A layer's mixture of experts, as in Qwen2-57B-A14B (arXiv 2407.10671, 2.2.2): with n = norm(x),
//! `x += sum of p_e(n) FFN_e(n) over the chosen experts e + sigmoid(s . n) FFN_shared(n)`.
//!
//! p is the softmax over all experts; the k largest are chosen, and keep their p or are divided by their sum (`norm_topk_prob`). The shared
//! expert lies in the same stack as so many slices of an expert's width, so that a token has `n_slots` experts and the kernels know one
//! sort. Where a token goes is decided on the GPU and never read back.

use qwgpu_runtime::{
    Pass, Tensor,
    kernels::{
        self,
        experts_down::Down,
        experts_gate_up::GateUp,
        matmul_experts::{Direction, ExpertsProduct},
        router::Routing,
    },
};

use crate::{Result, activations::ExpertActivations, config::Moe, qwen2::Forward, weights::Experts};

/// What a sparse layer works with; there whenever a layer is sparse.
struct Parts<'a> {
    moe: &'a Moe,
    kernels: &'a kernels::experts::Experts,
    activations: &'a ExpertActivations,
}

impl Forward<'_> {
    fn parts(&self) -> Parts<'_> {
        Parts {
            moe: self.config.moe.as_ref().expect("a sparse layer has experts"),
            kernels: self.kernels.experts.as_ref().expect("compiled for a config with a sparse layer"),
            activations: self
                .activations
                .experts
                .as_ref()
                .expect("allocated for a config with a sparse layer"),
        }
    }

    /// `x += mixture(norm(x))`, pairs of token and expert in order of expert, so that each expert is one product of many rows.
    pub(crate) fn mixture(&self, p: &mut Pass<'_>, i: usize, norm: &Tensor, w: &Experts, x: &Tensor) -> Result<()> {
        if x.rows() == 1 {
            return self.step_mixture(p, i, norm, w, x);
        }
        let Parts {
            moe,
            kernels,
            activations: a,
        } = self.parts();
        let n_tokens = x.rows();
        let n_pairs = n_tokens * moe.n_slots();
        let [gate_up, hidden, out] = [&a.gate_up, &a.hidden, &a.out].map(|t| t.narrow(n_pairs));
        let on_matrix_units = kernels.product.has_coop();
        let operand = self.activations.operand.as_ref().filter(|_| on_matrix_units);
        let hidden_operand = a.operand.as_ref().filter(|_| on_matrix_units);

        let normed = self.norm(p, (i, "post_norm"), norm, x, operand)?; // [n_tokens, d_model]
        let (chosen, factors) = self.route(p, i, norm, w, x)?; // [n_tokens, k], [n_tokens, k + 1]
        kernels.group.dispatch(p, &chosen, moe.n_experts, moe.n_shared(), &a.groups); // [n_pairs]
        p.tap(i, "pairs", &a.groups.pairs.reshape(1, n_pairs))?;
        p.tap(i, "offsets", &a.groups.offsets)?;
        let product = ExpertsProduct {
            weights: &w.gate_up,
            rows_each: 2 * moe.d_ff_expert,
            x: &normed,
            groups: &a.groups,
            n_tokens,
            direction: Direction::Gather,
            out: &gate_up,
            operand,
            in_operand: operand.is_some(),
        };
        kernels.product.dispatch(p, &product); // [n_pairs, 2 f]
        p.tap(i, "experts_gate_up", &gate_up)?;
        self.swiglu(p, (i, "experts_swiglu"), &gate_up, &hidden, hidden_operand)?; // [n_pairs, f]
        let product = ExpertsProduct {
            weights: &w.down,
            rows_each: self.config.d_model,
            x: &hidden,
            direction: Direction::Scatter,
            out: &out,
            operand: hidden_operand,
            in_operand: hidden_operand.is_some(),
            ..product
        };
        kernels.product.dispatch(p, &product); // [n_tokens * n_slots, d_model]
        p.tap(i, "experts_out", &out)?;
        kernels.combine.dispatch(p, &out, &factors, moe.n_slots(), x); // [n_tokens, d_model]
        Ok(())
    }

    /// The same for one token, whose experts are read row by row.
    pub(crate) fn step_mixture(&self, p: &mut Pass<'_>, i: usize, norm: &Tensor, w: &Experts, x: &Tensor) -> Result<()> {
        let Parts {
            moe,
            kernels,
            activations: a,
        } = self.parts();
        let hidden = a.hidden.narrow(moe.n_slots());
        let (n_experts, n_shared) = (moe.n_experts, moe.n_shared());

        let (chosen, factors) = self.route(p, i, norm, w, x)?; // [1, k], [1, k + 1]
        let gate_up = GateUp {
            experts: &w.gate_up,
            n_experts,
            n_shared,
            x,
            norm,
            eps: self.config.rms_norm_eps,
            chosen: &chosen,
            out: &hidden,
        };
        let (bytes, hidden_bytes) = (&self.activations.bytes, &self.activations.hidden_bytes);
        let in_bytes = kernels.leaves_bytes(&w.gate_up) && kernels.takes_bytes(&w.down);
        if in_bytes {
            kernels.gate_up_bytes(p, &gate_up, hidden_bytes); // [n_slots, f]
        }
        if !in_bytes || p.taps(i) {
            kernels.gate_up(p, &gate_up, bytes); // [n_slots, f]
        }
        p.tap(i, "experts_swiglu", &hidden)?;
        let down = Down {
            experts: &w.down,
            n_experts,
            n_shared,
            hidden: &hidden,
            chosen: &chosen,
            factors: &factors,
            out: x,
        };
        let bytes = if in_bytes { hidden_bytes } else { bytes };
        kernels.down(p, &down, bytes, in_bytes); // [1, d_model]
        Ok(())
    }

    /// Which experts each token goes to, and with what weights.
    fn route(&self, p: &mut Pass<'_>, i: usize, norm: &Tensor, w: &Experts, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let Parts {
            moe,
            kernels,
            activations: a,
        } = self.parts();
        let [logits, chosen, factors] = [&a.logits, &a.chosen, &a.factors].map(|t| t.narrow(x.rows()));
        let routing = Routing {
            weights: &w.router,
            x,
            norm,
            eps: self.config.rms_norm_eps,
            normalise: moe.norm_topk,
            logits: &logits,
            chosen: &chosen,
            factors: &factors,
            usage: &a.usage,
            layer: i,
        };
        kernels.router.dispatch(p, &routing);
        p.tap(i, "router_logits", &logits)?;
        p.tap(i, "topk_ids", &chosen)?;
        p.tap(i, "topk_weights", &factors)?;
        Ok((chosen, factors))
    }
}
