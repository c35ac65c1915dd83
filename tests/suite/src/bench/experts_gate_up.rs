//! The first half of one token's experts, on every mixture in each type of weights.

use qwgpu_runtime::{
    DType, Gpu,
    kernels::experts_gate_up::{ExpertsGateUp, GateUp},
};

use super::{BenchCase, data, experts::Mixture};

pub(super) fn cases(gpu: &Gpu) -> Vec<BenchCase> {
    let mixtures = Mixture::all(gpu).into_iter();
    mixtures.flat_map(|mixture| DType::ALL.map(|dtype| case(mixture, dtype))).collect()
}

fn case(m: Mixture, dtype: DType) -> BenchCase {
    let Mixture { d_model, d_ff, .. } = m;
    let n_slots = m.n_slots();
    let name = format!("{} {n_slots} experts, {dtype} [{}, {d_model}]", m.name, 2 * d_ff);
    let bytes = n_slots * 2 * d_ff * dtype.row_bytes(d_model) + 4 * (2 * d_model + n_slots * d_ff);
    BenchCase::new(
        "experts_gate_up",
        name,
        (bytes, 4 * n_slots * d_ff * d_model),
        move |gpu, copies| {
            let kernel = ExpertsGateUp::new(gpu, &[dtype])?;
            let experts = m.stack(gpu, 2 * d_ff, d_model, dtype)?;
            let [x, norm] = [(); 2].map(|()| data::inputs(gpu, 1, 1, d_model));
            let (x, norm) = (x?.remove(0), norm?.remove(0));
            let chosen = m.chosen(gpu, copies)?;
            let outs = data::outputs(gpu, copies, n_slots, d_ff)?;
            Ok(Box::new(move |pass, i| {
                let operands = GateUp {
                    experts: &experts,
                    n_experts: m.n_experts,
                    n_shared: m.n_shared,
                    x: &x,
                    norm: &norm,
                    eps: 1e-6,
                    chosen: &chosen[i],
                    out: &outs[i],
                };
                kernel.dispatch(pass, &operands);
            }))
        },
    )
}
