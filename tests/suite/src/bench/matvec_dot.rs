//! Decode's products with integer dot products: every matrix of each model in both quantised types, in every form of the kernel.

use qwgpu_runtime::{
    DType, Gpu, Pass,
    kernels::{
        matmul::Product,
        matvec_dot::MatvecDot,
        quantize::{Bytes, Quantize},
    },
};

use super::{
    BenchCase, data,
    shapes::{self, Shape, Weight},
};

/// Invocations and rows of a workgroup.
const FORMS: [(u32, u32); 9] = [(32, 1), (32, 2), (32, 4), (64, 1), (64, 2), (64, 4), (128, 1), (128, 2), (128, 4)];

pub(super) fn cases(gpu: &Gpu) -> Vec<BenchCase> {
    let mut cases = Vec::new();
    for model in shapes::models(gpu) {
        for weight in model.weights() {
            for dtype in [DType::Q8, DType::Q4] {
                cases.extend(FORMS.map(|form| case(gpu, &model, weight, dtype, form)));
            }
        }
    }
    cases
}

fn case(gpu: &Gpu, model: &Shape, weight: Weight, dtype: DType, (workgroup, n_rows): (u32, u32)) -> BenchCase {
    let (what, rows, cols) = weight;
    let rows = shapes::cut(gpu, rows);
    let name = format!(
        "{} {what} {dtype} [{rows}, {cols}], workgroup {workgroup} of {n_rows} rows",
        model.name
    );
    // the vector is a byte an element, and eight for each block
    let bytes = dtype.row_bytes(rows * cols) + cols + cols / 4 + 4 * rows;
    BenchCase::new("matvec_dot", name, (bytes, 2 * rows * cols), move |gpu, copies| {
        let kernel = MatvecDot::new(gpu, dtype, workgroup, n_rows)?;
        let weights = data::weights(gpu, copies, rows, cols, dtype)?;
        let x = data::inputs(gpu, 1, 1, cols)?.remove(0);
        let bytes = Bytes::new(gpu, cols)?;
        let mut pass = Pass::new(gpu);
        Quantize::new(gpu)?.dispatch(&mut pass, &x, &bytes);
        pass.submit();
        let outs = data::outputs(gpu, copies, 1, rows)?;
        Ok(Box::new(move |pass, i| {
            let product = Product {
                weights: &weights[i],
                x: &x,
                bias: None,
                accumulate: false,
                out: &outs[i],
                operand: None,
                in_operand: false,
                in_bytes: false,
                bytes: None,
            };
            kernel.dispatch(pass, &product, &bytes);
        }))
    })
}
