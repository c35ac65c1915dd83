//! The penalty of 1,024 ids that have occurred: each is read, and its logit read and written.

use qwgpu_runtime::kernels::penalty::Penalty;

use super::{BenchCase, data, shapes};
use crate::fill;

const N_IDS: usize = 1024;

pub(super) fn cases() -> Vec<BenchCase> {
    let n = shapes::B0_5.vocab;
    let name = format!("{N_IDS} of [1, {n}]");
    let case = BenchCase::new("penalty", name, (12 * N_IDS, N_IDS), move |gpu, copies| {
        let kernel = Penalty::new(gpu)?;
        let logits = data::outputs(gpu, copies, 1, n)?;
        let values = data::floats(n);
        logits.iter().for_each(|logits| logits.write(gpu, &values));
        let order = fill::permutation(3, n);
        let ids = data::words(gpu, copies, [1, N_IDS], |i| {
            order.iter().copied().cycle().skip(i * N_IDS).take(N_IDS).collect()
        })?;
        Ok(Box::new(move |pass, i| {
            kernel.dispatch(pass, &logits[i], 0, &ids[i], N_IDS, 1.0001)
        }))
    });
    // a copy takes 50 times what is read of it
    vec![BenchCase { max_copies: 256, ..case }]
}
