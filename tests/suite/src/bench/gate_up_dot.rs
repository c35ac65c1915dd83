//! The first half of one token's feed-forward with integer dot products, on every model in both quantised types, in every form.

use qwgpu_runtime::{
    DType, Gpu, Pass,
    kernels::{
        gate_up_dot::GateUpDot,
        quantize::{Bytes, Quantize},
        share::Share,
    },
};

use super::{
    BenchCase, data,
    shapes::{self, Shape},
};

/// Invocations and rows of a workgroup.
const FORMS: [(u32, u32); 6] = [(32, 2), (32, 4), (64, 2), (64, 4), (128, 2), (128, 4)];

pub(super) fn cases(gpu: &Gpu) -> Vec<BenchCase> {
    let mut cases = Vec::new();
    for model in shapes::models(gpu) {
        for dtype in [DType::Q8, DType::Q4] {
            cases.extend(FORMS.map(|(workgroup, rows)| case(gpu, model, dtype, Share { workgroup, rows })));
        }
    }
    cases
}

fn case(gpu: &Gpu, model: Shape, dtype: DType, share: Share) -> BenchCase {
    let (d_model, d_ff) = (model.d_model, shapes::cut(gpu, model.d_ff));
    let name = format!(
        "{} gate_up {dtype} [{}, {d_model}], workgroup {} of {} rows",
        model.name,
        2 * d_ff,
        share.workgroup,
        share.rows
    );
    // x is a byte an element, and eight for each block
    let bytes = 2 * d_ff * dtype.row_bytes(d_model) + d_model + d_model / 4 + 4 * d_ff;
    BenchCase::new("gate_up_dot", name, (bytes, 4 * d_ff * d_model), move |gpu, copies| {
        let kernel = GateUpDot::with_share(gpu, dtype, share)?;
        let matrices = data::weights(gpu, copies, 2 * d_ff, d_model, dtype)?;
        let x = data::inputs(gpu, 1, 1, d_model)?.remove(0);
        let bytes = Bytes::new(gpu, d_model)?;
        let mut pass = Pass::new(gpu);
        Quantize::new(gpu)?.dispatch(&mut pass, &x, &bytes);
        pass.submit();
        let outs = data::outputs(gpu, copies, 1, d_ff)?;
        Ok(Box::new(move |pass, i| kernel.dispatch(pass, &matrices[i], &bytes, &outs[i])))
    })
}
