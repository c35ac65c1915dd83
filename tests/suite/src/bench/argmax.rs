//! Greedy choice among the logits of a whole vocabulary.

use qwgpu_runtime::{
    Elem, Tensor,
    kernels::argmax::{Argmax, Scratch},
};

use super::{BenchCase, data, shapes};

pub(super) fn cases() -> Vec<BenchCase> {
    let n = shapes::B0_5.vocab;
    let case = BenchCase::new("argmax", format!("[1, {n}]"), (4 * n + 4, n), move |gpu, copies| {
        let kernel = Argmax::new(gpu)?;
        let logits = data::inputs(gpu, copies, 1, n)?;
        let scratch = Scratch::new(gpu, 1, n)?;
        let row = Tensor::new(gpu, "row", 1, 4, Elem::U32)?;
        Ok(Box::new(move |pass, i| kernel.dispatch(pass, &logits[i], n, &scratch, &row)))
    });
    vec![case]
}
