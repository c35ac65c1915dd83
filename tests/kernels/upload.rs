//! What is uploaded is what is there: sizes around the staging buffers and the shares of threads, plain and converted.

use qwgpu_runtime::{DType, Gpu, Matrix, narrow, widen};
use qwgpu_suite::{Mode, fill, gpu};

/// Rows and columns: below the size from which uploads use the ring, about it, a few shares, and more than one staging buffer.
const SHAPES: [(usize, usize); 6] = [(3, 8), (511, 1024), (513, 1032), (1025, 2056), (37, 65_544), (4_201, 8_008)];

/// Rows that hold something else first, so that an upload begins where it should.
const ROWS_BEFORE: usize = 2;

/// Random numbers that `dtype` holds exactly.
fn values(dtype: DType, n: usize, seed: u64) -> Vec<f32> {
    let values: Vec<f32> = (0..n as u64).map(|i| fill::at(seed, i)).collect();
    widen(dtype, &narrow(dtype, &values))
}

fn check(gpu: &Gpu, (rows, cols): (usize, usize), source: DType, target: DType) {
    let matrix = Matrix::new(gpu, "uploaded", rows + ROWS_BEFORE, cols, target).expect("room");
    // exact in both
    let narrower = if source == DType::F32 { target } else { source };
    let before = values(narrower, ROWS_BEFORE * cols, 60);
    let after = values(narrower, rows * cols, 61);
    let write = |first, values: &[f32]| {
        let bytes = narrow(source, values);
        matrix.write_rows(gpu, first, source, &bytes).expect("an upload");
    };
    write(0, &before);
    // more often than there are staging buffers: each is used again
    for _ in 0..5 {
        write(ROWS_BEFORE, &values(narrower, rows.min(700) * cols, 62));
    }
    write(ROWS_BEFORE, &after);
    let found = matrix.read_rows(gpu, 0..rows + ROWS_BEFORE).expect("a read-back");
    let expected = before.iter().chain(&after);
    let off = found.iter().zip(expected).position(|(a, b)| a.to_bits() != b.to_bits());
    assert_eq!(off, None, "[{rows}, {cols}] from {source} to {target}");
}

#[test]
fn bytes_arrive() {
    let gpu = match gpu(Mode::Native) {
        Ok(gpu) => gpu,
        Err(error) => panic!("uploads need an adapter: {error}"),
    };
    for shape in SHAPES {
        check(&gpu, shape, DType::BF16, DType::BF16);
        check(&gpu, shape, DType::F32, DType::BF16);
        check(&gpu, shape, DType::BF16, DType::F32);
        check(&gpu, shape, DType::F32, DType::F16);
    }
    gpu.flush_uploads().expect("the staging memory goes back");
}
