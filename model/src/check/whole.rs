//! A whole model in plain f64 loops over the weights as they lie on the GPU: the second opinion on the entire forward pass.

use std::{ops::Range, thread};

use qwgpu_runtime::{
    Gpu, Matrix,
    kernels::{attention, rms_norm, rope, router, silu_mul},
};

use super::Checked;
use crate::{
    Error, Model, Result, Session,
    config::Config,
    rope::{attention_factor, inv_freq},
    weights::{Experts, FeedForward, LayerWeights},
};

/// Weight elements that are on the host at once.
const BLOCK: usize = 32 << 20;

/// Feeds `ids` to an empty session and compares all logits of the last token with f64.
///
/// The tolerance is that of the golden tests: 1e-3 of the largest logit with an f32 cache, 2e-2 with an f16 one, whose rounding
/// (2^-11 of each key and value) passes through the softmax of every layer.
///
/// # Errors
/// As [`Session::feed`].
pub fn end_to_end(session: &mut Session, ids: &[u32]) -> Result<Checked> {
    session.rewind(0);
    session.feed(ids)?;
    let found = session.logits()?;
    let expected = forward(session.model(), ids)?;
    let largest = expected.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
    let relative = if session.model().kv() == qwgpu_runtime::Elem::F16 {
        2e-2
    } else {
        1e-3
    };
    let mut checked = Checked::new(session.model().config().n_layers, "end to end");
    for (found, expected) in found.into_iter().zip(expected) {
        checked.compare(found, expected, relative * largest);
    }
    Ok(checked)
}

/// Logits of the last of `ids`, in f64 but for values that are stored as f32 between operations.
fn forward(model: &Model, ids: &[u32]) -> Result<Vec<f64>> {
    let (gpu, c) = (&*model.gpu, &model.config);
    if ids.is_empty() {
        return Err(Error::EmptyPrompt);
    }
    let mut x: Vec<Vec<f64>> = Vec::new();
    for &id in ids {
        x.push(model.weights.embed.read_row(gpu, id as usize)?.into_iter().map(f64::from).collect());
    }
    for (i, w) in model.weights.layers.iter().enumerate() {
        attend(gpu, c, i, w, &mut x)?;
        feed_forward(gpu, c, i, w, &mut x)?;
    }
    let normed = norms(&x[x.len() - 1..], &model.weights.final_norm.read_f32(gpu)?, c);
    Ok(all_rows(gpu, model.weights.head(), &normed)?.swap_remove(0))
}

fn attend(gpu: &Gpu, c: &Config, i: usize, w: &LayerWeights, x: &mut [Vec<f64>]) -> Result<()> {
    let mut qkv = all_rows(gpu, &w.qkv, &norms(x, &w.input_norm.read_f32(gpu)?, c))?;
    let bias = w.qkv_bias.read_f32(gpu)?;
    for row in &mut qkv {
        row.iter_mut().zip(&bias).for_each(|(y, b)| *y += f64::from(*b));
    }
    let (inv_freq, factor) = (inv_freq(c), attention_factor(c));
    let head = |t: usize, head: usize| narrow(&qkv[t][head * c.head_dim..][..c.head_dim]);
    let turned = |t: usize, h: usize| narrow(&rope::reference(&head(t, h), t as u32, &inv_freq, factor));
    let mut context = Vec::new();
    for t in 0..x.len() {
        let first = c.windows[i].map_or(0, |window| (t + 1).saturating_sub(window));
        let mut row = Vec::new();
        for h in 0..c.n_heads {
            let kv_head = c.n_heads + h / c.group_size();
            let keys: Vec<f32> = (first..=t).flat_map(|j| turned(j, kv_head)).collect();
            let values: Vec<f32> = (first..=t).flat_map(|j| head(j, kv_head + c.n_kv_heads)).collect();
            row.extend(attention::reference(
                &turned(t, h),
                &keys,
                &values,
                1.0 / (c.head_dim as f32).sqrt(),
            ));
        }
        context.push(narrow(&row));
    }
    add(x, &all_rows(gpu, &w.o, &context)?);
    Ok(())
}

fn feed_forward(gpu: &Gpu, c: &Config, i: usize, w: &LayerWeights, x: &mut [Vec<f64>]) -> Result<()> {
    let normed = norms(x, &w.post_norm.read_f32(gpu)?, c);
    match &w.feed_forward {
        FeedForward::Dense(w) => {
            let gate_up = product(gpu, &w.gate_up, 0..2 * c.d_ff, &normed)?;
            add(x, &product(gpu, &w.down, 0..c.d_model, &swiglu(&gate_up))?);
        }
        FeedForward::Sparse(w) => mixture(gpu, c, i, w, &normed, x)?,
    }
    Ok(())
}

fn swiglu(gate_up: &[Vec<f64>]) -> Vec<Vec<f32>> {
    let hidden = |row: &Vec<f64>| {
        let row = narrow(row);
        let (gate, up) = row.split_at(row.len() / 2);
        gate.iter()
            .zip(up)
            .map(|(&gate, &up)| silu_mul::reference(gate, up) as f32)
            .collect()
    };
    gate_up.iter().map(hidden).collect()
}

/// Each expert in turn, with the tokens that chose it.
fn mixture(gpu: &Gpu, c: &Config, i: usize, w: &Experts, normed: &[Vec<f32>], x: &mut [Vec<f64>]) -> Result<()> {
    let moe = c.experts(i).expect("the layer is sparse");
    let logits = product(gpu, &w.router, 0..moe.n_experts + 1, normed)?;
    let routed: Vec<_> = logits
        .iter()
        .map(|row| router::reference(&narrow(row), moe.n_experts_per_token, moe.norm_topk))
        .collect();
    let f = moe.d_ff_expert;
    for expert in 0..moe.n_stacked() {
        // token and weight
        let weight = |t: usize| -> Option<(usize, f64)> {
            let routed = &routed[t];
            let slot = match expert < moe.n_experts {
                true => routed.experts.iter().position(|&id| id as usize == expert)?,
                false => routed.experts.len(),
            };
            Some((t, routed.factors[slot]))
        };
        let tokens: Vec<(usize, f64)> = (0..x.len()).filter_map(weight).collect();
        let inputs: Vec<Vec<f32>> = tokens.iter().map(|&(t, _)| normed[t].clone()).collect();
        let gate_up = product(gpu, &w.gate_up, expert * 2 * f..(expert + 1) * 2 * f, &inputs)?;
        let out = product(gpu, &w.down, expert * c.d_model..(expert + 1) * c.d_model, &swiglu(&gate_up))?;
        for ((t, factor), out) in tokens.into_iter().zip(out) {
            x[t].iter_mut().zip(out).for_each(|(x, y)| *x += factor * y);
        }
    }
    Ok(())
}

fn norms(x: &[Vec<f64>], weight: &[f32], c: &Config) -> Vec<Vec<f32>> {
    x.iter()
        .map(|row| narrow(&rms_norm::reference(&narrow(row), weight, c.rms_norm_eps)))
        .collect()
}

fn narrow(x: &[f64]) -> Vec<f32> {
    x.iter().map(|&v| v as f32).collect()
}

fn add(x: &mut [Vec<f64>], y: &[Vec<f64>]) {
    for (x, y) in x.iter_mut().zip(y) {
        x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
    }
}

/// The product of all rows of a matrix.
fn all_rows(gpu: &Gpu, weights: &Matrix, x: &[Vec<f32>]) -> Result<Vec<Vec<f64>>> {
    product(gpu, weights, 0..weights.rows(), x)
}

/// `x weights^T` for these rows of the matrix, block by block, on all cores.
fn product(gpu: &Gpu, weights: &Matrix, rows: Range<usize>, x: &[Vec<f32>]) -> Result<Vec<Vec<f64>>> {
    let cols = weights.cols();
    let block = (BLOCK / cols).max(1);
    let n_threads = thread::available_parallelism().map_or(1, usize::from);
    let mut out = vec![Vec::with_capacity(rows.len()); x.len()];
    if x.is_empty() {
        return Ok(out);
    }
    for first in rows.clone().step_by(block) {
        let rows = weights.read_rows(gpu, first..(first + block).min(rows.end))?;
        let share = (rows.len() / cols).div_ceil(n_threads) * cols;
        let dots = |rows: &[f32]| -> Vec<Vec<f64>> {
            let dot = |x: &Vec<f32>| {
                rows.chunks_exact(cols)
                    .map(|w| qwgpu_runtime::kernels::matmul::reference(w, x))
                    .collect()
            };
            x.iter().map(dot).collect()
        };
        let parts: Vec<Vec<Vec<f64>>> = thread::scope(|scope| {
            let handles: Vec<_> = rows.chunks(share).map(|rows| scope.spawn(|| dots(rows))).collect();
            handles
                .into_iter()
                .map(|handle| handle.join().expect("a dot product does not panic"))
                .collect()
        });
        for part in parts {
            out.iter_mut().zip(part).for_each(|(row, part)| row.extend(part));
        }
    }
    Ok(out)
}
