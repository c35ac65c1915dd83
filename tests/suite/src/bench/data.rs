//! Inputs and outputs of benchmarks, a copy for each turn: random, since zeros take less power and so flatter.

use std::sync::{Arc, OnceLock};

use half::f16;
use qwgpu_runtime::{DType, Elem, Gpu, Matrix, Pass, Result, Tensor, kernels::fill_random::FillRandom};

use crate::fill;

/// Uploads between two waits, so that staging memory stays small.
const UPLOAD: u64 = 64 << 20;

/// Random numbers repeat after this many: a prime, which no shape divides.
const PERIOD: usize = 65_537;

/// Random numbers between -1 and 1.25.
pub(super) fn floats(n: usize) -> Vec<f32> {
    static TABLE: OnceLock<Vec<f32>> = OnceLock::new();
    let table = TABLE.get_or_init(|| (0..PERIOD as u64).map(|i| fill::at(5, i)).collect());
    table.iter().copied().cycle().take(n).collect()
}

/// f32 inputs `[rows, cols]`.
pub(super) fn inputs(gpu: &Arc<Gpu>, copies: usize, rows: usize, cols: usize) -> Result<Vec<Tensor>> {
    let tensors = Tensor::several(gpu, "inputs", copies, rows, cols, Elem::F32)?;
    let values = floats(rows * cols);
    write_all(gpu, &tensors, &values)?;
    Ok(tensors)
}

/// u32 inputs, each made by `values` from its number.
pub(super) fn words(gpu: &Arc<Gpu>, copies: usize, shape: [usize; 2], values: impl Fn(usize) -> Vec<u32>) -> Result<Vec<Tensor>> {
    let tensors = Tensor::several(gpu, "words", copies, shape[0], shape[1], Elem::U32)?;
    for (i, tensor) in tensors.iter().enumerate() {
        tensor.write(gpu, &values(i));
    }
    gpu.flush_uploads()?;
    Ok(tensors)
}

fn write_all(gpu: &Arc<Gpu>, tensors: &[Tensor], values: &[f32]) -> Result<()> {
    let mut pending = 0;
    for tensor in tensors {
        tensor.write(gpu, values);
        pending += tensor.bytes();
        if pending > UPLOAD {
            gpu.flush_uploads()?;
            pending = 0;
        }
    }
    gpu.flush_uploads()
}

/// f32 outputs `[rows, cols]`, in one allocation, so that each dispatch waits for the one before, as in a model.
pub(super) fn outputs(gpu: &Gpu, copies: usize, rows: usize, cols: usize) -> Result<Vec<Tensor>> {
    Tensor::several(gpu, "outputs", copies, rows, cols, Elem::F32)
}

/// A random tensor of floats `[rows, cols]` of either width.
pub(super) fn random(gpu: &Arc<Gpu>, rows: usize, cols: usize, elem: Elem) -> Result<Tensor> {
    let tensor = Tensor::new(gpu, "random", rows, cols, elem)?;
    let n = rows * cols;
    if elem == Elem::F16 {
        let table: Vec<f16> = floats(n.min(PERIOD)).into_iter().map(f16::from_f32).collect();
        tensor.write(gpu, &table.into_iter().cycle().take(n).collect::<Vec<_>>());
    } else {
        tensor.write(gpu, &floats(n));
    }
    gpu.flush_uploads()?;
    Ok(tensor)
}

/// Random weights, made on the GPU.
pub(super) fn weights(gpu: &Gpu, copies: usize, rows: usize, cols: usize, dtype: DType) -> Result<Vec<Matrix>> {
    stacks(gpu, copies, [rows, 1, cols], dtype)
}

/// Stacks of `n` matrices `[rows_each, cols]`, random, made on the GPU.
pub(super) fn stacks(gpu: &Gpu, copies: usize, [n, rows_each, cols]: [usize; 3], dtype: DType) -> Result<Vec<Matrix>> {
    let fill = FillRandom::new(gpu)?;
    let mut pass = Pass::new(gpu);
    let matrix = |i: usize| -> Result<Matrix> {
        let matrix = Matrix::stack(gpu, "weights", n, rows_each, cols, dtype)?;
        fill.dispatch(&mut pass, &matrix, i as u32, 0.03);
        Ok(matrix)
    };
    let matrices = (0..copies).map(matrix).collect::<Result<_>>()?;
    pass.submit();
    gpu.wait()?;
    Ok(matrices)
}
