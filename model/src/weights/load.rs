//! From a checkpoint's tensors to [`Weights`]. The only file that knows the tensors' names.

use std::{ops::Range, sync::Arc};

use qwgpu_runtime::{DType, Gpu, Matrix, widen};

use super::{Dense, Experts, FeedForward, LayerWeights, Storage, Weights, vector};
use crate::{
    Error, Result,
    checkpoint::Checkpoint,
    config::{Config, Moe},
};

/// Uploads tensors one after the other and reports progress.
pub(crate) struct Loader<'a> {
    pub(crate) gpu: &'a Arc<Gpu>,
    pub(crate) checkpoint: &'a Checkpoint,
    pub(crate) storage: Storage,
    pub(crate) progress: &'a mut dyn FnMut(u64, u64) -> bool,
    pub(crate) done: u64,
}

impl Loader<'_> {
    pub(crate) fn load(mut self, config: &Config) -> Result<Weights> {
        let (d_model, vocab) = (config.d_model, config.vocab_size);
        check_shapes(self.checkpoint, config)?;
        let storage = self.storage;
        let embed = self.matrix("embedding", storage.embed, d_model, &[("model.embed_tokens.weight", vocab)])?;
        let layers = (0..config.n_layers).map(|i| self.layer(config, i)).collect::<Result<_>>()?;
        let final_norm = vector(self.gpu, "final norm", &self.values(&["model.norm.weight"], &[d_model])?)?;
        let head = match config.tie_word_embeddings {
            true => None,
            false => Some(self.matrix("head", storage.head, d_model, &[("lm_head.weight", vocab)])?),
        };
        self.gpu.flush_uploads()?;
        Ok(Weights {
            embed,
            layers,
            final_norm,
            head,
        })
    }

    fn layer(&mut self, config: &Config, i: usize) -> Result<LayerWeights> {
        let name = |rest: &str| format!("model.layers.{i}.{rest}");
        let (d_model, dtype) = (config.d_model, self.storage.layers);
        let (q, kv) = (config.q_width(), config.kv_width());
        let [q_w, k_w, v_w] = ["q", "k", "v"].map(|p| name(&format!("self_attn.{p}_proj.weight")));
        let [q_b, k_b, v_b] = ["q", "k", "v"].map(|p| name(&format!("self_attn.{p}_proj.bias")));
        let input_norm = self.values(&[&name("input_layernorm.weight")], &[d_model])?;
        let qkv_bias = self.values(&[&q_b, &k_b, &v_b], &[q, kv, kv])?;
        Ok(LayerWeights {
            input_norm: vector(self.gpu, "input norm", &input_norm)?,
            qkv_bias: vector(self.gpu, "qkv bias", &qkv_bias)?,
            input_norm_and_bias: vector(self.gpu, "input norm and qkv bias", &[input_norm, qkv_bias].concat())?,
            qkv: self.matrix("qkv", dtype, d_model, &[(&q_w, q), (&k_w, kv), (&v_w, kv)])?,
            o: self.matrix("o", dtype, q, &[(&name("self_attn.o_proj.weight"), d_model)])?,
            post_norm: vector(
                self.gpu,
                "post norm",
                &self.values(&[&name("post_attention_layernorm.weight")], &[d_model])?,
            )?,
            feed_forward: match config.experts(i) {
                None => FeedForward::Dense(self.dense(config, &name("mlp"))?),
                Some(moe) => FeedForward::Sparse(self.experts(d_model, moe, &name("mlp"))?),
            },
        })
    }

    fn dense(&mut self, config: &Config, mlp: &str) -> Result<Dense> {
        let (d_model, d_ff, dtype) = (config.d_model, config.d_ff, self.storage.layers);
        let [gate, up, down] = projections(mlp);
        Ok(Dense {
            gate_up: self.matrix("gate and up", dtype, d_model, &[(&gate, d_ff), (&up, d_ff)])?,
            down: self.matrix("down", dtype, d_ff, &[(&down, d_model)])?,
        })
    }

    /// Every expert's tensors into their places in the stacks.
    fn experts(&mut self, d_model: usize, moe: &Moe, mlp: &str) -> Result<Experts> {
        let (n, f, dtype) = (moe.n_stacked(), moe.d_ff_expert, self.storage.layers);
        let router = Matrix::new(self.gpu, "router", moe.n_experts + 1, d_model, DType::F32)?;
        let gate_up = Matrix::stack(self.gpu, "experts' gate and up", n, 2 * f, d_model, dtype)?;
        let down = Matrix::stack(self.gpu, "experts' down", n, d_model, f, dtype)?;
        for (first_row, part, rows) in [(0, "gate", moe.n_experts), (moe.n_experts, "shared_expert_gate", 1)] {
            let view = self.checkpoint.tensor_of(&format!("{mlp}.{part}.weight"), &[rows, d_model])?;
            self.upload_rows(&router, first_row, view.dtype, view.data)?;
        }
        for expert in 0..moe.n_experts {
            let [gate_name, up_name, down_name] = projections(&format!("{mlp}.experts.{expert}"));
            for (half, name) in [gate_name, up_name].iter().enumerate() {
                let view = self.checkpoint.tensor_of(name, &[f, d_model])?;
                self.upload_rows(&gate_up, (2 * expert + half) * f, view.dtype, view.data)?;
            }
            let view = self.checkpoint.tensor_of(&down_name, &[d_model, f])?;
            self.upload_rows(&down, expert * d_model, view.dtype, view.data)?;
        }
        self.shared_expert(d_model, moe, mlp, [&gate_up, &down])?;
        Ok(Experts { router, gate_up, down })
    }

    /// Cuts the shared expert into slices of f neurons: rows of gate and up, columns of down. What the last slice lacks stays zero.
    fn shared_expert(&mut self, d_model: usize, moe: &Moe, mlp: &str, [gate_up, down]: [&Matrix; 2]) -> Result<()> {
        let (width, f) = (moe.d_ff_shared, moe.d_ff_expert);
        let [gate_name, up_name, down_name] = projections(&format!("{mlp}.shared_expert"));
        for (half, name) in [gate_name, up_name].iter().enumerate() {
            let view = self.checkpoint.tensor_of(name, &[width, d_model])?;
            let slices = view.data.chunks(f * view.dtype.element_bytes(d_model));
            for (slice, rows) in slices.enumerate() {
                self.upload_rows(gate_up, (2 * (moe.n_experts + slice) + half) * f, view.dtype, rows)?;
            }
        }
        let view = self.checkpoint.tensor_of(&down_name, &[d_model, width])?;
        for slice in 0..moe.n_shared() {
            let columns = slice * f..((slice + 1) * f).min(width);
            let bytes = view.dtype.element_bytes(d_model * columns.len());
            let rows = columns_of(view.data, view.dtype.element_bytes(width), view.dtype, columns, f);
            down.write_rows(self.gpu, (moe.n_experts + slice) * d_model, view.dtype, &rows)?;
            self.advance(bytes as u64)?;
        }
        Ok(())
    }

    /// Stacks tensors of `cols` columns; each comes with its rows.
    fn matrix(&mut self, label: &str, dtype: DType, cols: usize, tensors: &[(&str, usize)]) -> Result<Matrix> {
        let rows = tensors.iter().map(|(_, rows)| rows).sum();
        let matrix = Matrix::new(self.gpu, label, rows, cols, dtype)?;
        let mut first_row = 0;
        for (name, rows) in tensors {
            let view = self.checkpoint.tensor_of(name, &[*rows, cols])?;
            self.upload_rows(&matrix, first_row, view.dtype, view.data)?;
            first_row += rows;
        }
        Ok(matrix)
    }

    /// In slices of whole rows, so that progress moves and a cancel is heard within a large tensor.
    fn upload_rows(&mut self, matrix: &Matrix, first_row: usize, source: DType, rows: &[u8]) -> Result<()> {
        let row_bytes = source.element_bytes(matrix.cols());
        let rows_per_slice = ((32 << 20) / row_bytes).max(1);
        for (i, slice) in rows.chunks(rows_per_slice * row_bytes).enumerate() {
            matrix.write_rows(self.gpu, first_row + i * rows_per_slice, source, slice)?;
            self.advance(slice.len() as u64)?;
        }
        Ok(())
    }

    /// Norm weights and biases, joined and widened to f32: they are small, and read once a row.
    fn values(&mut self, names: &[&str], lengths: &[usize]) -> Result<Vec<f32>> {
        let mut values = Vec::new();
        for (name, length) in names.iter().zip(lengths) {
            let view = self.checkpoint.tensor_of(name, &[*length])?;
            values.extend(widen(view.dtype, view.data));
            self.advance(view.data.len() as u64)?;
        }
        Ok(values)
    }

    fn advance(&mut self, bytes: u64) -> Result<()> {
        self.done += bytes;
        if (self.progress)(self.done, self.checkpoint.total_bytes()) {
            Ok(())
        } else {
            Err(Error::Cancelled)
        }
    }
}

/// Finds every tensor and its shape before the first byte is uploaded: a broken checkpoint fails at once.
fn check_shapes(checkpoint: &Checkpoint, config: &Config) -> Result<()> {
    let (d, q, kv) = (config.d_model, config.q_width(), config.kv_width());
    let check = |name: &str, shape: &[usize]| checkpoint.tensor_of(name, shape).map(|_| ());
    check("model.embed_tokens.weight", &[config.vocab_size, d])?;
    check("model.norm.weight", &[d])?;
    if !config.tie_word_embeddings {
        check("lm_head.weight", &[config.vocab_size, d])?;
    }
    for i in 0..config.n_layers {
        let check = |rest: &str, shape: &[usize]| check(&format!("model.layers.{i}.{rest}"), shape);
        check("input_layernorm.weight", &[d])?;
        check("post_attention_layernorm.weight", &[d])?;
        for (p, width) in [("q", q), ("k", kv), ("v", kv)] {
            check(&format!("self_attn.{p}_proj.weight"), &[width, d])?;
            check(&format!("self_attn.{p}_proj.bias"), &[width])?;
        }
        check("self_attn.o_proj.weight", &[d, q])?;
        let network = |mlp: &str, width: usize| -> Result<()> {
            let [gate, up, down] = projections(mlp);
            check(&gate, &[width, d])?;
            check(&up, &[width, d])?;
            check(&down, &[d, width])
        };
        let Some(moe) = config.experts(i) else {
            network("mlp", config.d_ff)?;
            continue;
        };
        check("mlp.gate.weight", &[moe.n_experts, d])?;
        check("mlp.shared_expert_gate.weight", &[1, d])?;
        network("mlp.shared_expert", moe.d_ff_shared)?;
        for expert in 0..moe.n_experts {
            network(&format!("mlp.experts.{expert}"), moe.d_ff_expert)?;
        }
    }
    Ok(())
}

/// Names of a SwiGLU network's tensors.
fn projections(mlp: &str) -> [String; 3] {
    ["gate", "up", "down"].map(|part| format!("{mlp}.{part}_proj.weight"))
}

/// These columns of rows that take `row_bytes` each, every row padded with zeros to `padded` columns.
fn columns_of(data: &[u8], row_bytes: usize, dtype: DType, columns: Range<usize>, padded: usize) -> Vec<u8> {
    let bytes = dtype.element_bytes(columns.start)..dtype.element_bytes(columns.end);
    let row = |row: &[u8]| {
        let mut row = row[bytes.clone()].to_vec();
        row.resize(dtype.element_bytes(padded), 0);
        row
    };
    data.chunks_exact(row_bytes).flat_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_cut_out_and_padded() {
        let rows: Vec<u8> = (0..2 * 6 * 2).collect(); // two rows of six 16-bit elements
        assert_eq!(columns_of(&rows, 12, DType::BF16, 2..4, 2), [4, 5, 6, 7, 16, 17, 18, 19]);
        assert_eq!(
            columns_of(&rows, 12, DType::BF16, 4..6, 3),
            [8, 9, 10, 11, 0, 0, 20, 21, 22, 23, 0, 0]
        );
    }
}
