//! The second half of one token's experts, on every mixture in each type of weights.

use qwgpu_runtime::{
    DType, Gpu,
    kernels::experts_down::{Down, ExpertsDown},
};

use super::{BenchCase, data, experts::Mixture};

pub(super) fn cases(gpu: &Gpu) -> Vec<BenchCase> {
    let mixtures = Mixture::all(gpu).into_iter();
    mixtures.flat_map(|mixture| DType::ALL.map(|dtype| case(mixture, dtype))).collect()
}

fn case(m: Mixture, dtype: DType) -> BenchCase {
    let Mixture { d_model, d_ff, .. } = m;
    let n_slots = m.n_slots();
    let name = format!("{} {n_slots} experts, {dtype} [{d_model}, {d_ff}]", m.name);
    let bytes = n_slots * d_model * dtype.row_bytes(d_ff) + 4 * (n_slots * d_ff + 2 * d_model);
    BenchCase::new("experts_down", name, (bytes, 2 * n_slots * d_ff * d_model), move |gpu, copies| {
        let kernel = ExpertsDown::new(gpu, &[dtype])?;
        let experts = m.stack(gpu, d_model, d_ff, dtype)?;
        let hidden = data::inputs(gpu, 1, n_slots, d_ff)?.remove(0);
        let factors = data::inputs(gpu, 1, 1, m.k + 1)?.remove(0);
        let chosen = m.chosen(gpu, copies)?;
        let outs = data::outputs(gpu, copies, 1, d_model)?;
        Ok(Box::new(move |pass, i| {
            let operands = Down {
                experts: &experts,
                n_experts: m.n_experts,
                n_shared: m.n_shared,
                hidden: &hidden,
                chosen: &chosen[i],
                factors: &factors,
                out: &outs[i],
            };
            kernel.dispatch(pass, &operands);
        }))
    })
}
