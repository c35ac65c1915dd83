//! The penalty of 1,024 ids that have occurred: all bits are read, and each logit that is hit is read and written.

use qwgpu_runtime::{
    Tensor,
    kernels::penalty::{Penalty, seen_bits, seen_words},
};

use super::{BenchCase, data, shapes};
use crate::fill;

const N_IDS: usize = 1024;

pub(super) fn cases() -> Vec<BenchCase> {
    let n = shapes::B0_5.vocab;
    let name = format!("{N_IDS} of [1, {n}]");
    let bytes = 4 * seen_words(n) + 8 * N_IDS;
    let case = BenchCase::new("penalty", name, (bytes, N_IDS), move |gpu, copies| {
        let kernel = Penalty::new(gpu)?;
        let logits = data::outputs(gpu, copies, 1, n)?;
        let values = data::floats(n);
        logits.iter().for_each(|logits| logits.write(gpu, &values));
        let order = fill::permutation(3, n);
        let seen = data::words(gpu, copies, [1, seen_words(n)], |i| {
            let ids: Vec<u32> = order.iter().copied().cycle().skip(i * N_IDS).take(N_IDS).collect();
            seen_bits(n, &ids)
        })?;
        let row = Tensor::from_u32(gpu, "row", 1, 4, &[order[0], 0, 0, 0])?;
        Ok(Box::new(move |pass, i| kernel.dispatch(pass, &logits[i], &seen[i], &row, 1.0001)))
    });
    // a copy takes many times what is read of it
    vec![BenchCase { max_copies: 256, ..case }]
}
