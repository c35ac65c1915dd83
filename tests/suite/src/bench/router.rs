//! The choice of experts: the routers of the mixtures, for a chunk of a prompt.

use qwgpu_runtime::{
    DType, Elem, Gpu, Tensor,
    kernels::router::{Router, Routing},
};

use super::{
    BenchCase, data,
    experts::{MIXTURES, Mixture},
    shapes,
};

pub(super) fn cases(gpu: &Gpu) -> Vec<BenchCase> {
    let [_, chunk] = shapes::token_counts(gpu);
    MIXTURES.map(|mixture| case("router", mixture, chunk)).into()
}

/// The kernel of this name, which is the one that so many tokens get.
pub(super) fn case(kernel: &'static str, m: Mixture, n_tokens: usize) -> BenchCase {
    let (n_logits, d_model) = (m.n_experts + 1, m.d_model);
    let name = format!("{} {} of {} experts, [{n_tokens}, {d_model}]", m.name, m.k, m.n_experts);
    let bytes = 4 * (n_logits * d_model + d_model + n_tokens * (d_model + n_logits + 2 * m.k + 1));
    BenchCase::new(kernel, name, (bytes, 2 * n_tokens * n_logits * d_model), move |gpu, copies| {
        let kernel = Router::new(gpu)?;
        let weights = data::weights(gpu, copies, n_logits, d_model, DType::F32)?;
        let x = data::inputs(gpu, 1, n_tokens, d_model)?.remove(0);
        let norm = data::inputs(gpu, 1, 1, d_model)?.remove(0);
        let logits = data::outputs(gpu, copies, n_tokens, n_logits)?;
        let chosen = Tensor::new(gpu, "chosen", n_tokens, m.k, Elem::U32)?;
        let factors = Tensor::new(gpu, "factors", n_tokens, m.k + 1, Elem::F32)?;
        let usage = Tensor::new(gpu, "usage", 1, m.n_experts, Elem::U32)?;
        Ok(Box::new(move |pass, i| {
            let routing = Routing {
                weights: &weights[i],
                x: &x,
                norm: &norm,
                eps: 1e-6,
                normalise: false,
                logits: &logits[i],
                chosen: &chosen,
                factors: &factors,
                usage: &usage,
                layer: 0,
            };
            kernel.dispatch(pass, &routing);
        }))
    })
}
