//! The second half of one token's experts with integer dot products, on every mixture in both quantised types, in every form.

use std::sync::Arc;

use qwgpu_runtime::{
    DType, Gpu, Pass, Result,
    kernels::{
        experts_down::Down,
        experts_down_dot::ExpertsDownDot,
        quantize::{Bytes, Quantize},
        share::Share,
    },
};

use super::{BenchCase, Record, data, experts::Mixture};

/// Invocations and rows of a workgroup.
const FORMS: [(u32, u32); 9] = [(32, 1), (32, 2), (32, 4), (64, 1), (64, 2), (64, 4), (128, 1), (128, 2), (128, 4)];

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
        "{} {n_slots} experts, {dtype} [{d_model}, {d_ff}], workgroup {} of {} rows",
        m.name, share.workgroup, share.rows
    );
    // an activation is a byte, and eight for each block
    let bytes = n_slots * (d_model * dtype.row_bytes(d_ff) + d_ff + d_ff / 4) + 8 * d_model;
    let prepare = move |gpu: &Arc<Gpu>, copies| -> Result<Record> {
        let kernel = ExpertsDownDot::with_share(gpu, dtype, share)?;
        let experts = m.stack(gpu, d_model, d_ff, dtype)?;
        let hidden = data::inputs(gpu, 1, n_slots, d_ff)?.remove(0);
        let bytes = Bytes::new(gpu, n_slots * d_ff)?;
        let mut pass = Pass::new(gpu);
        Quantize::new(gpu)?.dispatch_rows(&mut pass, &hidden, &bytes);
        pass.submit();
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
            kernel.dispatch(pass, &operands, &bytes);
        }))
    };
    BenchCase::new("experts_down_dot", name, (bytes, 2 * n_slots * d_ff * d_model), prepare)
}
