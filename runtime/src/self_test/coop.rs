//! `probe_coop.wgsl`: what goes in, and what must come out.

use half::f16;
use qwgpu_shaders::CoopTile;

use super::{Params, Verdict};
use crate::{Elem, Gpu, Pass, Result, Tensor, pipeline::Access, pipeline::Pipeline};

pub(super) const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Read, Access::Write];

/// Tiles in every direction.
const TILES: usize = 2;

pub(super) fn run(gpu: &Gpu, pipeline: &Pipeline, tile: CoopTile) -> Result<Verdict> {
    let n = TILES * tile.size() as usize;
    let (a, b, start) = matrices(n);
    let a_in = operand(gpu, tile, n, &a)?;
    let b_in = operand(gpu, tile, n, &b)?;
    let start_in = Tensor::from_f32(gpu, "probe start", n, n, &start)?;
    let out = Tensor::new(gpu, "probe out", n, n, Elem::F32)?;
    let mut pass = Pass::new(gpu);
    let buffers = [&*a_in.buffer, &*b_in.buffer, &*start_in.buffer, &*out.buffer];
    let grid = [TILES as u32, TILES as u32, 1];
    pass.dispatch(pipeline, &buffers, &Params { n: n as u32 }, grid);
    pass.submit();
    Ok(Verdict::of("out", &out.read_f32(gpu)?, &product(n, &a, &b, &start), f32::eq))
}

fn operand(gpu: &Gpu, tile: CoopTile, n: usize, values: &[f32]) -> Result<Tensor> {
    if !tile.is_f16() {
        return Tensor::from_f32(gpu, "probe operand", n, n, values);
    }
    let tensor = Tensor::new(gpu, "probe operand", n, n, Elem::F16)?;
    tensor.write(gpu, &values.iter().map(|&v| f16::from_f32(v)).collect::<Vec<f16>>());
    Ok(tensor)
}

/// Whole numbers without any symmetry. Sums reach beyond 2048, where f16 has no odd numbers: a sum that is kept in f16 shows.
fn matrices(n: usize) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let matrix = |row: usize, col: usize, modulus: usize| -> Vec<f32> {
        let value = |i: usize| ((i / n * row + i % n * col) % modulus) as f32 - (modulus / 2) as f32;
        (0..n * n).map(value).collect()
    };
    (matrix(37, 11, 101), matrix(23, 59, 89), matrix(5, 7, 1999))
}

/// start + a * transpose(b), row-major.
fn product(n: usize, a: &[f32], b: &[f32], start: &[f32]) -> Vec<f32> {
    let element = |i: usize| {
        let (row, col) = (i / n * n, i % n * n);
        start[i] + (0..n).map(|k| a[row + k] * b[col + k]).sum::<f32>()
    };
    (0..n * n).map(element).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_exact_and_results_tell_mistakes_apart() {
        for n in [16, 32] {
            let (a, b, start) = matrices(n);
            assert!([&a, &b].into_iter().flatten().all(|v| f16::from_f32(*v).to_f32() == *v));
            let right = product(n, &a, &b, &start);
            assert!(right.iter().any(|v| f16::from_f32(*v).to_f32() != *v), "f16 sums would pass");
            let turn = |m: &[f32]| (0..n * n).map(|i| m[i % n * n + i / n]).collect::<Vec<f32>>();
            for wrong in [
                product(n, &turn(&a), &b, &start),
                product(n, &a, &turn(&b), &start),
                product(n, &b, &a, &start),
                product(n, &a, &b, &turn(&start)),
                product(n, &a, &b, &vec![0.0; n * n]),
            ] {
                assert_ne!(right, wrong);
            }
        }
    }

    #[test]
    fn product_by_hand() {
        let out = product(2, &[1.0, 2.0, 3.0, 4.0], &[5.0, 6.0, 7.0, 8.0], &[0.5, 0.0, 0.0, 0.0]);
        assert_eq!(out, [17.5, 23.0, 39.0, 53.0]);
    }
}
