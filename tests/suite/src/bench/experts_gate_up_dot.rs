//! The first half of one token's experts with integer dot products, on every mixture in both quantised types, in every form.

use std::sync::Arc;

use qwgpu_runtime::{
    DType, Gpu, Pass, Result,
    kernels::{
        experts_gate_up::GateUp,
        experts_gate_up_dot::ExpertsGateUpDot,
        quantize::{Bytes, Quantize},
        share::Share,
    },
};

use super::{BenchCase, Record, data, experts::Mixture};

/// Invocations and rows of a workgroup.
const FORMS: [(u32, u32); 6] = [(32, 2), (32, 4), (64, 2), (64, 4), (128, 2), (128, 4)];

pub(super) fn cases(gpu: &Gpu) -> Vec<BenchCase> {
    let mut cases = Vec::new();
    for mixture in Mixture::all(gpu) {
        for dtype in [DType::Q8, DType::Q4] {
            cases.extend(FORMS.map(|(workgroup, rows)| case(mixture, dtype, Share { workgroup, rows })));
        }
    }
    cases
}

fn case(m: Mixture, dtype: DType, share: Share) -> BenchCase {
    let Mixture { d_model, d_ff, .. } = m;
    let n_slots = m.n_slots();
    let name = format!(
        "{} {n_slots} experts, {dtype} [{}, {d_model}], workgroup {} of {} rows",
        m.name,
        2 * d_ff,
        share.workgroup,
        share.rows
    );
    // x is a byte an element, and eight for each block
    let bytes = n_slots * 2 * d_ff * dtype.row_bytes(d_model) + d_model + d_model / 4 + 4 * n_slots * d_ff;
    let prepare = move |gpu: &Arc<Gpu>, copies| -> Result<Record> {
        let kernel = ExpertsGateUpDot::with_share(gpu, dtype, share)?;
        let experts = m.stack(gpu, 2 * d_ff, d_model, dtype)?;
        let x = data::inputs(gpu, 1, 1, d_model)?.remove(0);
        let bytes = Bytes::new(gpu, d_model)?;
        let mut pass = Pass::new(gpu);
        Quantize::new(gpu)?.dispatch(&mut pass, &x, &bytes);
        pass.submit();
        let chosen = m.chosen(gpu, copies)?;
        let outs = data::outputs(gpu, copies, n_slots, d_ff)?;
        Ok(Box::new(move |pass, i| {
            let operands = GateUp {
                experts: &experts,
                n_experts: m.n_experts,
                n_shared: m.n_shared,
                x: &x,
                norm: &x,
                eps: 1e-6,
                chosen: &chosen[i],
                out: &outs[i],
            };
            kernel.dispatch(pass, &operands, &bytes);
        }))
    };
    BenchCase::new("experts_gate_up_dot", name, (bytes, 4 * n_slots * d_ff * d_model), prepare)
}
