//! The gather of one token's row and of a chunk's. Every turn gathers other rows of the one table.

use qwgpu_runtime::{DType, Gpu, kernels::embed::Embed};

use super::{BenchCase, data, shapes};
use crate::fill;

pub(super) fn cases(gpu: &Gpu) -> Vec<BenchCase> {
    let mut cases = Vec::new();
    for model in shapes::models(gpu) {
        let vocab = if gpu.caps().cpu { 32_768 } else { model.vocab };
        cases.extend(shapes::token_counts(gpu).map(|n_tokens| case(model.name, n_tokens, vocab, model.d_model)));
    }
    cases
}

fn case(model: &str, n_tokens: usize, vocab: usize, cols: usize) -> BenchCase {
    let dtype = DType::BF16;
    let name = format!("{model} {dtype} {n_tokens} of [{vocab}, {cols}]");
    let bytes = n_tokens * (dtype.row_bytes(cols) + 4 * cols + 16);
    BenchCase::new("embed", name, (bytes, 0), move |gpu, copies| {
        let kernel = Embed::new(gpu, &[dtype])?;
        let table = data::weights(gpu, 1, vocab, cols, dtype)?.remove(0);
        // distinct rows, since a row that comes twice would be read once
        let order = fill::permutation(7, vocab);
        let rows = data::words(gpu, copies, [n_tokens, 4], |i| {
            let tokens = order.iter().copied().cycle().skip(i * n_tokens % vocab).take(n_tokens);
            tokens.flat_map(|token| [token, 0, 0, 0]).collect()
        })?;
        let outs = data::outputs(gpu, copies, n_tokens, cols)?;
        Ok(Box::new(move |pass, i| kernel.dispatch(pass, &table, &rows[i], &outs[i])))
    })
}
