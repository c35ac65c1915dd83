//! Activations of one token to bytes: the widths of a layer.

use qwgpu_runtime::{
    Gpu,
    kernels::quantize::{Bytes, Quantize},
};

use super::{BenchCase, data, shapes};

pub(super) fn cases(gpu: &Gpu) -> Vec<BenchCase> {
    let widths = |model: shapes::Shape| [model.d_model, model.d_ff].map(|cols| case(model.name, cols));
    shapes::models(gpu).into_iter().flat_map(widths).collect()
}

fn case(model: &str, cols: usize) -> BenchCase {
    let name = format!("{model} [1, {cols}]");
    // four bytes an element come in, one goes out, and eight for each block
    BenchCase::new("quantize", name, (5 * cols + cols / 4, 0), move |gpu, copies| {
        let kernel = Quantize::new(gpu)?;
        let xs = data::inputs(gpu, copies, 1, cols)?;
        let outs = (0..copies).map(|_| Bytes::new(gpu, cols)).collect::<Result<Vec<_>, _>>()?;
        Ok(Box::new(move |pass, i| kernel.dispatch(pass, &xs[i], &outs[i])))
    })
}
