//! One token's norm, to bytes: the width of each model.

use qwgpu_runtime::{
    Gpu,
    kernels::{norm_quantize::NormQuantize, quantize::Bytes},
};

use super::{BenchCase, data, shapes};

pub(super) fn cases(gpu: &Gpu) -> Vec<BenchCase> {
    let models = shapes::models(gpu).into_iter();
    models.map(|model| case(model.name, model.d_model)).collect()
}

fn case(model: &str, cols: usize) -> BenchCase {
    let name = format!("{model} [1, {cols}]");
    // eight bytes an element come in, one goes out, and eight for each block
    BenchCase::new("norm_quantize", name, (9 * cols + cols / 4, 4 * cols), move |gpu, copies| {
        let kernel = NormQuantize::new(gpu)?;
        let xs = data::inputs(gpu, copies, 1, cols)?;
        let norm = data::inputs(gpu, 1, 1, cols)?.remove(0);
        let outs = (0..copies).map(|_| Bytes::new(gpu, cols)).collect::<Result<Vec<_>, _>>()?;
        Ok(Box::new(move |pass, i| kernel.dispatch(pass, &xs[i], &norm, 1e-6, &outs[i])))
    })
}
