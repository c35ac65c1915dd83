//! One token's step through the layers: the forward pass of [`crate::qwen2`] in five dispatches a layer instead of ten. Experts take one
//! more, and so does the merge of attention where the context is split. Large quantised matrices are multiplied with integer dot products,
//! for which their input has to become bytes: the kernel before leaves it so, or theirs makes them as it takes the norm along; where it can
//! do neither, as with models wider than 4096, a dispatch more does.
//!
//! What lies between two products is part of one of them: the norms and the rotation cost nothing beside reading the weights, but a
//! dispatch of their own each costs a GPU about two microseconds of waiting, which is most of a small model's time. The steps are the
//! same, and so are the taps, but for what never leaves a kernel: `input_norm`, `qkv`, `post_norm`, `gate_up`, and before a head that takes
//! bytes `final_norm`.

use qwgpu_runtime::{
    Pass, Tensor,
    kernels::{attention::Plan, gate_up::GateUp, matmul::Product, norm_qkv_rope::Projection},
};

use crate::{
    Result,
    qwen2::Forward,
    weights::{Dense, FeedForward, LayerWeights},
};

impl Forward<'_> {
    /// Whether the kernels of a step take these weights: they join rows from far apart, which one binding has to hold.
    pub(crate) fn can_step(&self) -> bool {
        let mut layers = self.weights.layers.iter();
        let feed_forward = |layer: &LayerWeights| match &layer.feed_forward {
            FeedForward::Dense(w) => w.gate_up.is_whole(),
            FeedForward::Sparse(_) => true,
        };
        layers.all(|layer| layer.qkv.is_whole() && feed_forward(layer))
    }

    /// As [`Forward::layers`], for one token.
    pub(crate) fn step(&self, p: &mut Pass<'_>, plan: &Plan) -> Result<()> {
        let (a, k) = (self.activations, self.kernels);
        let x = a.x.narrow(1);
        let rows = a.rows.narrow(1);
        let paging = self.cache.paging(&rows);
        k.embed_step.dispatch(p, &self.weights.embed, self.rope_table, paging, &x, &a.place); // [1, d_model]; the token's place
        p.tap(0, "hidden", &x)?;
        for (i, layer) in self.weights.layers.iter().enumerate() {
            self.step_attention(p, i, layer, &x, plan)?;
            match &layer.feed_forward {
                FeedForward::Dense(w) => self.step_feed_forward(p, i, &layer.post_norm, w, &x)?,
                FeedForward::Sparse(w) => self.step_mixture(p, i, &layer.post_norm, w, &x)?,
            }
            p.tap(i + 1, "hidden", &x)?;
        }
        Ok(())
    }

    /// `x += o(attention(norm(x)))`
    fn step_attention(&self, p: &mut Pass<'_>, i: usize, w: &LayerWeights, x: &Tensor, plan: &Plan) -> Result<()> {
        let q = self.activations.q.narrow(1);
        let projection = Projection {
            weights: &w.qkv,
            x,
            vectors: &w.input_norm_and_bias,
            eps: self.config.rms_norm_eps,
            place: &self.activations.place,
            q: &q,
            cache: &self.cache.layers[i],
        };
        self.kernels
            .qkv_rope
            .dispatch(p, &projection, &w.input_norm, &self.activations.bytes); // [1, n_heads * head_dim]; k and v into the cache
        self.tap_heads(p, i, &q)?;
        self.attend(p, i, w, x, &q, plan)
    }

    /// `x += down(silu(gate(norm(x))) * up(norm(x)))`
    fn step_feed_forward(&self, p: &mut Pass<'_>, i: usize, norm: &Tensor, w: &Dense, x: &Tensor) -> Result<()> {
        let a = self.activations;
        let hidden = a.hidden.narrow(1);
        let gate_up = GateUp {
            weights: &w.gate_up,
            x,
            norm,
            eps: self.config.rms_norm_eps,
            bytes: &a.bytes,
            out: &hidden,
        };
        let k = self.kernels;
        let in_bytes = k.gate_up.leaves_bytes(&w.gate_up) && k.matmul.takes_bytes(&w.down);
        if in_bytes {
            k.gate_up.dispatch_bytes(p, &gate_up, &a.hidden_bytes); // [1, d_ff]
        }
        if !in_bytes || p.taps(i) {
            k.gate_up.dispatch(p, &gate_up); // [1, d_ff]
        }
        p.tap(i, "swiglu", &hidden)?;
        let down = a.residual(&w.down, &hidden, x);
        let bytes = if in_bytes { Some(&a.hidden_bytes) } else { down.bytes };
        k.matmul.dispatch(p, &Product { bytes, in_bytes, ..down }); // [1, d_model]
        Ok(())
    }
}
