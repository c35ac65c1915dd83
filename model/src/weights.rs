//! The model's weights on the GPU. The only file that knows the tensors' names in a checkpoint.
//!
//! Matrices that are used together are stacked by rows while loading (q, k, v; gate, up), so that each is one product.

use qwgpu_runtime::{DType, Gpu, Matrix, Pass, Tensor, kernels::fill_random::FillRandom, widen};

use crate::{
    Error, Result,
    checkpoint::{Checkpoint, TensorView},
    config::Config,
};

/// One decoder layer.
#[derive(Debug)]
pub(crate) struct LayerWeights {
    /// `[1, d_model]`
    pub(crate) input_norm: Tensor,
    /// q, k and v stacked: `[(n_heads + 2 n_kv_heads) * head_dim, d_model]`
    pub(crate) qkv: Matrix,
    /// `[1, (n_heads + 2 n_kv_heads) * head_dim]`
    pub(crate) qkv_bias: Tensor,
    /// Both of these vectors joined, for the kernel that has one binding for them: `[1, d_model + (n_heads + 2 n_kv_heads) * head_dim]`
    pub(crate) input_norm_and_bias: Tensor,
    /// `[d_model, n_heads * head_dim]`
    pub(crate) o: Matrix,
    /// `[1, d_model]`
    pub(crate) post_norm: Tensor,
    /// gate and up stacked: `[2 d_ff, d_model]`
    pub(crate) gate_up: Matrix,
    /// `[d_model, d_ff]`
    pub(crate) down: Matrix,
}

/// All weights of a dense model.
#[derive(Debug)]
pub(crate) struct Weights {
    /// `[vocab_size, d_model]`
    pub(crate) embed: Matrix,
    pub(crate) layers: Vec<LayerWeights>,
    /// `[1, d_model]`
    pub(crate) final_norm: Tensor,
    /// `[vocab_size, d_model]`; `None`: the embedding serves as head too.
    pub(crate) head: Option<Matrix>,
}

impl Weights {
    /// The matrix that turns hidden states into logits.
    pub(crate) fn head(&self) -> &Matrix {
        self.head.as_ref().unwrap_or(&self.embed)
    }
}

/// Uploads tensors one after the other and reports progress.
pub(crate) struct Loader<'a> {
    pub(crate) gpu: &'a std::sync::Arc<Gpu>,
    pub(crate) checkpoint: &'a Checkpoint,
    pub(crate) dtype: DType,
    pub(crate) progress: &'a mut dyn FnMut(u64, u64) -> bool,
    pub(crate) done: u64,
}

impl Loader<'_> {
    pub(crate) fn load(mut self, config: &Config) -> Result<Weights> {
        let (d_model, vocab) = (config.d_model, config.vocab_size);
        check_shapes(self.checkpoint, config)?;
        let embed = self.matrix("embedding", d_model, &[("model.embed_tokens.weight", vocab)])?;
        let layers = (0..config.n_layers).map(|i| self.layer(config, i)).collect::<Result<_>>()?;
        let final_norm = vector(self.gpu, "final norm", &self.values(&["model.norm.weight"], &[d_model])?)?;
        let head = match config.tie_word_embeddings {
            true => None,
            false => Some(self.matrix("head", d_model, &[("lm_head.weight", vocab)])?),
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
        let (d_model, d_ff) = (config.d_model, config.d_ff);
        let (q, kv) = (config.q_width(), config.kv_width());
        let [q_w, k_w, v_w] = ["q", "k", "v"].map(|p| name(&format!("self_attn.{p}_proj.weight")));
        let [q_b, k_b, v_b] = ["q", "k", "v"].map(|p| name(&format!("self_attn.{p}_proj.bias")));
        let (gate, up) = (name("mlp.gate_proj.weight"), name("mlp.up_proj.weight"));
        let input_norm = self.values(&[&name("input_layernorm.weight")], &[d_model])?;
        let qkv_bias = self.values(&[&q_b, &k_b, &v_b], &[q, kv, kv])?;
        Ok(LayerWeights {
            input_norm: vector(self.gpu, "input norm", &input_norm)?,
            qkv_bias: vector(self.gpu, "qkv bias", &qkv_bias)?,
            input_norm_and_bias: vector(self.gpu, "input norm and qkv bias", &[input_norm, qkv_bias].concat())?,
            qkv: self.matrix("qkv", d_model, &[(&q_w, q), (&k_w, kv), (&v_w, kv)])?,
            o: self.matrix("o", q, &[(&name("self_attn.o_proj.weight"), d_model)])?,
            post_norm: vector(
                self.gpu,
                "post norm",
                &self.values(&[&name("post_attention_layernorm.weight")], &[d_model])?,
            )?,
            gate_up: self.matrix("gate and up", d_model, &[(&gate, d_ff), (&up, d_ff)])?,
            down: self.matrix("down", d_ff, &[(&name("mlp.down_proj.weight"), d_model)])?,
        })
    }

    /// Stacks tensors of `cols` columns; each comes with its rows.
    fn matrix(&mut self, label: &str, cols: usize, tensors: &[(&str, usize)]) -> Result<Matrix> {
        let rows = tensors.iter().map(|(_, rows)| rows).sum();
        let matrix = Matrix::new(self.gpu, label, rows, cols, self.dtype)?;
        let mut first_row = 0;
        for (name, rows) in tensors {
            let view = self.checkpoint.tensor_of(name, &[*rows, cols])?;
            self.upload_rows(&matrix, first_row, &view)?;
            first_row += rows;
        }
        Ok(matrix)
    }

    /// In slices of whole rows, so that progress moves and a cancel is heard within a large tensor.
    fn upload_rows(&mut self, matrix: &Matrix, first_row: usize, view: &TensorView<'_>) -> Result<()> {
        let row_bytes = view.dtype.element_bytes(matrix.cols());
        let rows_per_slice = ((32 << 20) / row_bytes).max(1);
        for (i, slice) in view.data.chunks(rows_per_slice * row_bytes).enumerate() {
            matrix.write_rows(self.gpu, first_row + i * rows_per_slice, view.dtype, slice)?;
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

/// A row of f32 on the GPU.
fn vector(gpu: &Gpu, label: &str, values: &[f32]) -> Result<Tensor> {
    Ok(Tensor::from_f32(gpu, label, 1, values.len(), values)?)
}

/// Finds every tensor and its shape before the first byte is uploaded: a broken checkpoint fails at once.
fn check_shapes(checkpoint: &Checkpoint, config: &Config) -> Result<()> {
    let (d, f, q, kv) = (config.d_model, config.d_ff, config.q_width(), config.kv_width());
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
        check("mlp.gate_proj.weight", &[f, d])?;
        check("mlp.up_proj.weight", &[f, d])?;
        check("mlp.down_proj.weight", &[d, f])?;
    }
    Ok(())
}

/// Random weights made on the GPU: a matrix of `cols` inputs gets a standard deviation of 1 / sqrt(cols), so that activations keep
/// their size through the layers, as in a trained model.
pub(crate) fn random(gpu: &std::sync::Arc<Gpu>, config: &Config, dtype: DType, seed: u32) -> Result<Weights> {
    let fill = FillRandom::new(gpu)?;
    let mut next = seed;
    let mut matrix = |label: &str, rows: usize, cols: usize| -> Result<Matrix> {
        let matrix = Matrix::new(gpu, label, rows, cols, dtype)?;
        let mut pass = Pass::new(gpu);
        next = next.wrapping_add(1);
        fill.dispatch(&mut pass, &matrix, next, (3.0 / cols as f32).sqrt());
        pass.submit();
        Ok(matrix)
    };
    let (d, f, q) = (config.d_model, config.d_ff, config.q_width());
    let qkv = q + 2 * config.kv_width();
    let constant = |label: &str, n: usize, value: f32| vector(gpu, label, &vec![value; n]);
    let embed = matrix("embedding", config.vocab_size, d)?;
    let mut layer = || -> Result<LayerWeights> {
        Ok(LayerWeights {
            input_norm: constant("input norm", d, 1.0)?,
            qkv: matrix("qkv", qkv, d)?,
            qkv_bias: constant("qkv bias", qkv, 0.125)?,
            input_norm_and_bias: vector(gpu, "input norm and qkv bias", &[vec![1.0; d], vec![0.125; qkv]].concat())?,
            o: matrix("o", d, q)?,
            post_norm: constant("post norm", d, 1.0)?,
            gate_up: matrix("gate and up", 2 * f, d)?,
            down: matrix("down", d, f)?,
        })
    };
    let layers = (0..config.n_layers).map(|_| layer()).collect::<Result<_>>()?;
    let head = if config.tie_word_embeddings {
        None
    } else {
        Some(matrix("head", config.vocab_size, d)?)
    };
    gpu.wait()?;
    Ok(Weights {
        embed,
        layers,
        final_norm: constant("final norm", d, 1.0)?,
        head,
    })
}
