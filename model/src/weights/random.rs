//! Random weights, for benchmarks and checks.

use std::sync::Arc;

use qwgpu_runtime::{DType, Gpu, Matrix, Pass, kernels::fill_random::FillRandom};

use super::{Dense, Experts, FeedForward, LayerWeights, Storage, Weights, vector};
use crate::{Result, config::Config};

/// Random weights made on the GPU: a matrix of `cols` inputs gets a standard deviation of 1 / sqrt(cols), so that activations keep
/// their size through the layers, as in a trained model.
pub(crate) fn random(gpu: &Arc<Gpu>, config: &Config, storage: Storage, seed: u32) -> Result<Weights> {
    let fill = FillRandom::new(gpu)?;
    let mut next = seed;
    let mut matrix = |label: &str, [n, rows_each, cols]: [usize; 3], dtype: DType| -> Result<Matrix> {
        // rows that stay together are those of an expert
        let matrix = Matrix::stack(gpu, label, n, rows_each, cols, dtype)?;
        let mut pass = Pass::new(gpu);
        next = next.wrapping_add(1);
        fill.dispatch(&mut pass, &matrix, next, (3.0 / cols as f32).sqrt());
        pass.submit();
        Ok(matrix)
    };
    let (d, q) = (config.d_model, config.q_width());
    let qkv = q + 2 * config.kv_width();
    let constant = |label: &str, n: usize, value: f32| vector(gpu, label, &vec![value; n]);
    let embed = matrix("embedding", [config.vocab_size, 1, d], storage.embed)?;
    let dtype = storage.layers;
    let layer = |i: usize| -> Result<LayerWeights> {
        Ok(LayerWeights {
            input_norm: constant("input norm", d, 1.0)?,
            qkv: matrix("qkv", [qkv, 1, d], dtype)?,
            qkv_bias: constant("qkv bias", qkv, 0.125)?,
            input_norm_and_bias: vector(gpu, "input norm and qkv bias", &[vec![1.0; d], vec![0.125; qkv]].concat())?,
            o: matrix("o", [d, 1, q], dtype)?,
            post_norm: constant("post norm", d, 1.0)?,
            feed_forward: match config.experts(i) {
                None => FeedForward::Dense(Dense {
                    gate_up: matrix("gate and up", [2 * config.d_ff, 1, d], dtype)?,
                    down: matrix("down", [d, 1, config.d_ff], dtype)?,
                }),
                Some(moe) => FeedForward::Sparse(Experts {
                    router: matrix("router", [moe.n_experts + 1, 1, d], DType::F32)?,
                    gate_up: matrix("experts' gate and up", [moe.n_stacked(), 2 * moe.d_ff_expert, d], dtype)?,
                    down: matrix("experts' down", [moe.n_stacked(), d, moe.d_ff_expert], dtype)?,
                }),
            },
        })
    };
    let layers = (0..config.n_layers).map(layer).collect::<Result<_>>()?;
    let head = if config.tie_word_embeddings {
        None
    } else {
        Some(matrix("head", [config.vocab_size, 1, d], storage.head)?)
    };
    gpu.wait()?;
    Ok(Weights {
        embed,
        layers,
        final_norm: constant("final norm", d, 1.0)?,
        head,
    })
}
