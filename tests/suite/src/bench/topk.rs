//! Candidates for the best 20 and the best 256 of a whole vocabulary.

use qwgpu_runtime::{
    Elem, Tensor,
    kernels::topk::{Topk, n_candidates},
};

use super::{BenchCase, data, shapes};

const KS: [usize; 2] = [20, 256];

pub(super) fn cases() -> Vec<BenchCase> {
    let n = shapes::B0_5.vocab;
    let case = |k: usize| {
        let n_out = n_candidates(n, k);
        BenchCase::new("topk", format!("{k} of [1, {n}]"), (4 * n + 8 * n_out, n), move |gpu, copies| {
            let kernel = Topk::new(gpu)?;
            let logits = data::inputs(gpu, copies, 1, n)?;
            let keys = Tensor::new(gpu, "keys", 1, n_out, Elem::U32)?;
            let ids = Tensor::new(gpu, "ids", 1, n_out, Elem::U32)?;
            Ok(Box::new(move |pass, i| kernel.dispatch(pass, &logits[i], n, k, &keys, &ids)))
        })
    };
    KS.map(case).into()
}
