//! The best 64 logits of a whole vocabulary: all rounds of the tournament together.

use qwgpu_runtime::{
    Elem, Tensor,
    kernels::topk::{Scratch, Topk},
};

use super::{BenchCase, data, shapes};

const K: usize = 64;

pub(super) fn cases() -> Vec<BenchCase> {
    let n = shapes::B0_5.vocab;
    let name = format!("{K} of [1, {n}], all rounds");
    let case = BenchCase::new("topk", name, (4 * n + 8 * K, n), move |gpu, copies| {
        let kernel = Topk::new(gpu)?;
        let logits = data::inputs(gpu, copies, 1, n)?;
        let scratch = Scratch::new(gpu, 1, n, K)?;
        let values = Tensor::new(gpu, "values", 1, K, Elem::F32)?;
        let ids = Tensor::new(gpu, "ids", 1, K, Elem::U32)?;
        Ok(Box::new(move |pass, i| {
            kernel.dispatch(pass, &logits[i], n, &scratch, &values, &ids)
        }))
    });
    vec![case]
}
