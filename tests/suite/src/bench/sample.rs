//! The draw: from the candidates that top-k leaves, as Qwen2 asks for, and from a whole vocabulary.

use qwgpu_runtime::{
    Elem, Gpu, Pass, Result, Tensor,
    kernels::{
        sample::{Candidates, Draw, Sample},
        topk::{Topk, n_candidates},
    },
};

use super::{BenchCase, data, shapes};

const PLAIN: Draw = Draw {
    temperature: 0.7,
    k: 0,
    top_p: 1.0,
    min_p: 0.0,
    seed: 1,
};

pub(super) fn cases() -> Vec<BenchCase> {
    let n = shapes::B0_5.vocab;
    let nucleus = Draw { top_p: 0.8, ..PLAIN };
    let mut cases: Vec<BenchCase> = [20, 256].map(|k| top(n, Draw { k, ..nucleus })).into();
    for (name, draw) in [("temperature alone", PLAIN), ("top-p 0.8", nucleus)] {
        let name = format!("of [1, {n}], {name}");
        cases.push(BenchCase::new("sample", name, (4 * n, n), move |gpu, copies| {
            let kernel = Sample::new(gpu)?;
            let logits = data::inputs(gpu, copies, 1, n)?;
            let row = Tensor::new(gpu, "row", 1, 4, Elem::U32)?;
            Ok(Box::new(move |pass, i| {
                let logits = &logits[i];
                kernel.dispatch(pass, Candidates::Logits { logits, n_valid: n }, &draw, &row);
            }))
        }));
    }
    cases
}

/// From the candidates of a top-k, which stay the same.
fn top(vocab: usize, draw: Draw) -> BenchCase {
    let n = n_candidates(vocab, draw.k);
    let name = format!("of {n} candidates of top {}, top-p {}", draw.k, draw.top_p);
    let case = BenchCase::new("sample", name, (8 * n, n), move |gpu, _| {
        let kernel = Sample::new(gpu)?;
        let [keys, ids] = candidates(gpu, vocab, draw.k, n)?;
        let row = Tensor::new(gpu, "row", 1, 4, Elem::U32)?;
        Ok(Box::new(move |pass, _| {
            let (keys, ids) = (&keys, &ids);
            kernel.dispatch(pass, Candidates::Top { keys, ids, n }, &draw, &row);
        }))
    });
    BenchCase { max_copies: 1, ..case }
}

fn candidates(gpu: &std::sync::Arc<Gpu>, vocab: usize, k: usize, n: usize) -> Result<[Tensor; 2]> {
    let logits = data::inputs(gpu, 1, 1, vocab)?;
    let keys = Tensor::new(gpu, "keys", 1, n, Elem::U32)?;
    let ids = Tensor::new(gpu, "ids", 1, n, Elem::U32)?;
    let mut pass = Pass::new(gpu);
    Topk::new(gpu)?.dispatch(&mut pass, &logits[0], vocab, k, &keys, &ids);
    pass.submit();
    Ok([keys, ids])
}
