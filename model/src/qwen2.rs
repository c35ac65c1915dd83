//! Qwen2's forward pass, top to bottom as in the paper (arXiv 2407.10671): embed, decoder layers, final norm, head.
//!
//! Pre-norm decoder with grouped-query attention, rotary positions, biases on q, k and v, and SwiGLU, once or as a mixture of experts
//! ([`crate::moe`]). Every line is one kernel and ends with the shape of what it leaves. A single token takes the same way in fewer
//! dispatches ([`crate::decode`]). The residual stream `x`, norms, softmax and all sums are f32: Qwen2 has activations beyond f16's
//! range. Taps are free unless the pass records them.

use qwgpu_runtime::{
    Pass, Tensor,
    kernels::{
        Kernels,
        attention::{Plan, Query},
        matmul::Product,
        to_f16::Operand,
    },
};

use crate::{
    Result,
    activations::Activations,
    config::Config,
    kv_cache::KvCache,
    weights::{Dense, FeedForward, LayerWeights, Weights},
};

/// Everything that a forward pass reads and writes.
pub(crate) struct Forward<'a> {
    pub(crate) config: &'a Config,
    pub(crate) kernels: &'a Kernels,
    pub(crate) weights: &'a Weights,
    /// cos and sin by angle addition, `[256 + ctx / 256, head_dim]`
    pub(crate) rope_table: &'a Tensor,
    pub(crate) activations: &'a Activations,
    pub(crate) cache: &'a KvCache,
}

impl Forward<'_> {
    /// Runs the batch whose rows lie in `activations.rows` through all layers; leaves the residual stream in `activations.x`.
    pub(crate) fn layers(&self, p: &mut Pass<'_>, n_tokens: usize, plan: &Plan) -> Result<()> {
        if n_tokens == 1 && self.can_step() {
            return self.step(p, plan);
        }
        let x = self.activations.x.narrow(n_tokens);
        let rows = self.activations.rows.narrow(n_tokens);
        self.kernels.embed.dispatch(p, &self.weights.embed, &rows, &x); // [n_tokens, d_model]
        p.tap(0, "hidden", &x)?;
        for (i, layer) in self.weights.layers.iter().enumerate() {
            self.attention(p, i, layer, &x, plan)?;
            match &layer.feed_forward {
                FeedForward::Dense(w) => self.feed_forward(p, i, &layer.post_norm, w, &x)?,
                FeedForward::Sparse(w) => self.mixture(p, i, &layer.post_norm, w, &x)?,
            }
            p.tap(i + 1, "hidden", &x)?;
            p.work(2 * (n_tokens * self.layer_elements(i)) as u64);
        }
        Ok(())
    }

    /// Elements of a layer's matrices that each token is multiplied with.
    fn layer_elements(&self, i: usize) -> usize {
        let (c, q) = (self.config, self.config.q_width());
        let d_ff = c.experts(i).map_or(c.d_ff, |moe| moe.n_slots() * moe.d_ff_expert);
        c.d_model * (2 * q + 2 * c.kv_width() + 3 * d_ff)
    }

    /// `x += o(attention(norm(x)))`
    fn attention(&self, p: &mut Pass<'_>, i: usize, w: &LayerWeights, x: &Tensor, plan: &Plan) -> Result<()> {
        let (k, a) = (self.kernels, self.activations);
        let n_tokens = x.rows();
        let [qkv, q] = [&a.qkv, &a.q].map(|t| t.narrow(n_tokens));
        let rows = a.rows.narrow(n_tokens);
        let cache = &self.cache.layers[i];

        let operand = self.operand(n_tokens);
        let normed = self.norm(p, (i, "input_norm"), &w.input_norm, x, operand)?; // [n_tokens, d_model]
        let product = Product {
            in_operand: operand.is_some(),
            ..a.product(&w.qkv, &normed, Some(&w.qkv_bias), &qkv)
        };
        k.matmul.dispatch(p, &product); // [n_tokens, (n_heads + 2 n_kv_heads) * head_dim]
        p.tap(i, "qkv", &qkv)?;
        k.rope.dispatch(p, &qkv, self.rope_table, self.cache.paging(&rows), &q, cache); // [n_tokens, n_heads * head_dim]; k and v into the cache
        self.tap_heads(p, i, &q)?;
        self.attend(p, i, w, x, &q, plan)
    }

    /// Where a kernel may leave rows for the product that follows: the operand, if it goes to the matrix units.
    fn operand(&self, n_tokens: usize) -> Option<&Operand> {
        let operand = self.activations.operand.as_ref();
        operand.filter(|_| self.kernels.matmul.takes_operand(n_tokens))
    }

    /// The norm of x, in the operand if there is one. Then the result has its shape alone, but where it is tapped.
    pub(crate) fn norm(
        &self,
        p: &mut Pass<'_>,
        (i, name): (usize, &'static str),
        norm: &Tensor,
        x: &Tensor,
        operand: Option<&Operand>,
    ) -> Result<Tensor> {
        let (k, eps) = (self.kernels, self.config.rms_norm_eps);
        let normed = self.activations.normed.narrow(x.rows());
        if let Some(operand) = operand {
            k.to_operand().norm.dispatch(p, x, norm, eps, operand);
        }
        if operand.is_none() || p.taps(i) {
            k.rms_norm.dispatch(p, x, 0, norm, eps, &normed);
        }
        p.tap(i, name, &normed)?;
        Ok(normed)
    }

    /// `hidden = silu(gate) * up`, in the operand if there is one; then hidden is written only where it is tapped.
    pub(crate) fn swiglu(
        &self,
        p: &mut Pass<'_>,
        (i, name): (usize, &'static str),
        gate_up: &Tensor,
        hidden: &Tensor,
        operand: Option<&Operand>,
    ) -> Result<()> {
        if let Some(operand) = operand {
            self.kernels.to_operand().silu_mul.dispatch(p, gate_up, operand);
        }
        if operand.is_none() || p.taps(i) {
            self.kernels.silu_mul.dispatch(p, gate_up, hidden);
        }
        p.tap(i, name, hidden)?;
        Ok(())
    }

    pub(crate) fn tap_heads(&self, p: &mut Pass<'_>, i: usize, q: &Tensor) -> Result<()> {
        let cache = &self.cache.layers[i];
        p.tap(i, "q_rope", q)?;
        p.tap(i, "k_cache", &cache.k)?;
        p.tap(i, "v_cache", &cache.v)?;
        Ok(())
    }

    /// `x += o(attention(q, cache))`
    pub(crate) fn attend(&self, p: &mut Pass<'_>, i: usize, w: &LayerWeights, x: &Tensor, q: &Tensor, plan: &Plan) -> Result<()> {
        let (k, a) = (self.kernels, self.activations);
        let (context, rows) = (a.context.narrow(q.rows()), a.rows.narrow(q.rows()));
        let scale = 1.0 / (self.config.head_dim as f32).sqrt();
        let query = Query {
            q,
            cache: &self.cache.layers[i],
            paging: self.cache.paging(&rows),
            window: self.config.windows[i],
            scale,
        };
        k.attention.dispatch(p, &query, plan, &a.scratch, &context); // [n_tokens, n_heads * head_dim]
        p.tap(i, "attn_context", &context)?;
        k.matmul.dispatch(p, &a.residual(&w.o, &context, x)); // [n_tokens, d_model]
        p.tap(i, "attn_residual", x)?;
        Ok(())
    }

    /// `x += down(silu(gate(norm(x))) * up(norm(x)))`
    fn feed_forward(&self, p: &mut Pass<'_>, i: usize, norm: &Tensor, w: &Dense, x: &Tensor) -> Result<()> {
        let (k, a) = (self.kernels, self.activations);
        let [gate_up, hidden] = [&a.gate_up, &a.hidden].map(|t| t.narrow(x.rows()));
        let operand = self.operand(x.rows());
        let in_operand = operand.is_some();

        let normed = self.norm(p, (i, "post_norm"), norm, x, operand)?; // [n_tokens, d_model]
        let product = a.product(&w.gate_up, &normed, None, &gate_up);
        k.matmul.dispatch(p, &Product { in_operand, ..product }); // [n_tokens, 2 d_ff]
        p.tap(i, "gate_up", &gate_up)?;
        self.swiglu(p, (i, "swiglu"), &gate_up, &hidden, operand)?; // [n_tokens, d_ff]
        let product = a.residual(&w.down, &hidden, x);
        k.matmul.dispatch(p, &Product { in_operand, ..product }); // [n_tokens, d_model]
        Ok(())
    }

    /// Logits of `n_rows` rows of the batch from `first_row` on, into the first rows of `activations.logits`.
    pub(crate) fn head(&self, p: &mut Pass<'_>, first_row: usize, n_rows: usize) -> Result<()> {
        let (k, a) = (self.kernels, self.activations);
        let [normed, logits] = [&a.final_normed, &a.logits].map(|t| t.narrow(n_rows));
        let (n_layers, eps) = (self.config.n_layers, self.config.rms_norm_eps);
        let (norm, head) = (&self.weights.final_norm, self.weights.head());

        if (first_row, n_rows) == (0, 1) && k.matmul.takes_bytes(head) {
            // a step: the norm leaves bytes and nothing else
            k.matmul
                .dispatch_normed(p, &a.product(head, &a.x.narrow(1), None, &logits), norm, eps); // [1, vocab_size]
        } else {
            k.rms_norm.dispatch(p, &a.x, first_row, norm, eps, &normed); // [n_rows, d_model]
            p.tap(n_layers, "final_norm", &normed)?;
            k.matmul.dispatch(p, &a.product(head, &normed, None, &logits)); // [n_rows, vocab_size]
        }
        p.tap(n_layers, "logits", &logits)?;
        Ok(())
    }
}
