//! Weight matrices, kept in their own width and split by rows where one binding cannot hold them.

use std::{ops::Range, sync::Arc};

use half::{bf16, f16};

use crate::{DType, Elem, Gpu, Result, Tensor, buffer::Buffer, transfer, upload::Convert};

/// One stretch of rows in a buffer of its own.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) first_row: usize,
    pub(crate) n_rows: usize,
    pub(crate) buffer: Arc<Buffer>,
}

/// A weight matrix of shape `[rows, cols]`, row-major, `cols` a multiple of 8.
///
/// A matrix that exceeds the adapter's largest binding (128 MiB on some drivers, 2 GiB at most) is split into parts of whole rows;
/// kernels run once for each part.
#[derive(Debug)]
pub struct Matrix {
    rows: usize,
    cols: usize,
    dtype: DType,
    pub(crate) parts: Vec<Part>,
}

/// Rows of each part when a row takes `row_bytes` and a binding holds `max_binding`.
fn split(rows: usize, row_bytes: u64, max_binding: u64) -> Vec<Range<usize>> {
    let fit = usize::try_from((max_binding / row_bytes).max(1)).unwrap_or(usize::MAX);
    let n_parts = rows.div_ceil(fit).max(1);
    // equal parts, so that no dispatch is left with a sliver
    let step = rows.div_ceil(n_parts).max(1);
    (0..n_parts)
        .map(|i| (i * step).min(rows)..((i + 1) * step).min(rows))
        .filter(|range| !range.is_empty())
        .collect()
}

impl Matrix {
    /// Zeros, to be filled by [`Matrix::write_rows`] or by the `fill_random` kernel.
    ///
    /// # Errors
    /// When the adapter has no memory for it.
    ///
    /// # Panics
    /// When `cols` is not a multiple of 8 or a dimension is zero.
    #[track_caller]
    pub fn new(gpu: &Gpu, label: &str, rows: usize, cols: usize, dtype: DType) -> Result<Self> {
        assert!(
            rows > 0 && cols > 0 && cols.is_multiple_of(8),
            "matrix {label}: shape [{rows}, {cols}]"
        );
        let row_bytes = (cols * dtype.bytes()) as u64;
        let ranges = split(rows, row_bytes, gpu.caps().max_binding.min(gpu.caps().max_buffer));
        let part = |range: Range<usize>| -> Result<Part> {
            let buffer = gpu.buffer(label, range.len() as u64 * row_bytes)?;
            Ok(Part {
                first_row: range.start,
                n_rows: range.len(),
                buffer,
            })
        };
        Ok(Self {
            rows,
            cols,
            dtype,
            parts: ranges.into_iter().map(part).collect::<Result<_>>()?,
        })
    }

    /// A matrix with these values, converted to `dtype`.
    ///
    /// # Errors
    /// As [`Matrix::new`].
    pub fn from_f32(gpu: &Gpu, label: &str, rows: usize, cols: usize, dtype: DType, values: &[f32]) -> Result<Self> {
        let matrix = Self::new(gpu, label, rows, cols, dtype)?;
        matrix.write_rows(gpu, 0, DType::F32, bytemuck::cast_slice(values))?;
        Ok(matrix)
    }

    /// The first `rows` rows, sharing the buffers: with poison in the others, tests see what a kernel does past the end.
    ///
    /// # Panics
    /// When there are fewer rows.
    #[must_use]
    #[track_caller]
    pub fn narrow(&self, rows: usize) -> Self {
        assert!(rows <= self.rows, "narrow: {rows} rows of a matrix of {}", self.rows);
        let within = self.parts.iter().filter(|part| part.first_row < rows);
        let part = |part: &Part| Part {
            first_row: part.first_row,
            n_rows: part.n_rows.min(rows - part.first_row),
            buffer: part.buffer.clone(),
        };
        Self {
            rows,
            parts: within.map(part).collect(),
            ..*self
        }
    }

    /// Rows, that is, outputs.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Columns, that is, inputs.
    #[must_use]
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// Storage of the elements.
    #[must_use]
    pub const fn dtype(&self) -> DType {
        self.dtype
    }

    /// Bytes of all elements.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.rows as u64 * self.cols as u64 * self.dtype.bytes() as u64
    }

    /// Overwrites whole rows from `first_row` on with little-endian elements of type `source`, converted where it differs.
    ///
    /// # Errors
    /// When the device has failed or has no memory.
    ///
    /// # Panics
    /// When `bytes` are not whole rows or reach beyond the last one.
    #[track_caller]
    pub fn write_rows(&self, gpu: &Gpu, first_row: usize, source: DType, bytes: &[u8]) -> Result<()> {
        let source_row = self.cols * source.bytes();
        let n_rows = bytes.len() / source_row;
        assert_eq!(bytes.len(), n_rows * source_row, "write_rows: not whole rows");
        assert!(
            first_row + n_rows <= self.rows,
            "write_rows: rows {first_row}+{n_rows} of {}",
            self.rows
        );
        for part in &self.parts {
            let begin = first_row.max(part.first_row);
            let end = (first_row + n_rows).min(part.first_row + part.n_rows);
            if begin < end {
                let slice = &bytes[(begin - first_row) * source_row..(end - first_row) * source_row];
                let offset = ((begin - part.first_row) * self.cols * self.dtype.bytes()) as u64;
                write_converted(gpu, &part.buffer, offset, slice, source, self.dtype)?;
            }
        }
        Ok(())
    }

    /// The elements as they lie in memory, if in one part: u32 `[rows, words of a row]`.
    pub(crate) fn whole_as_words(&self) -> Option<Tensor> {
        let [part] = self.parts.as_slice() else { return None };
        Some(Tensor::over(
            part.buffer.clone(),
            self.rows,
            self.cols * self.dtype.bytes() / 4,
            Elem::U32,
        ))
    }

    /// One row, widened to f32: what references and checks compare with.
    ///
    /// # Errors
    /// When the device has failed.
    ///
    /// # Panics
    /// When there is no such row.
    #[track_caller]
    pub fn read_row(&self, gpu: &Gpu, row: usize) -> Result<Vec<f32>> {
        self.read_rows(gpu, row..row + 1)
    }

    /// Several rows, widened to f32: `[rows.len(), cols]`.
    ///
    /// # Errors
    /// When the device has failed.
    ///
    /// # Panics
    /// When there are no such rows.
    #[track_caller]
    pub fn read_rows(&self, gpu: &Gpu, rows: Range<usize>) -> Result<Vec<f32>> {
        assert!(rows.end <= self.rows, "read_rows: {rows:?} of {}", self.rows);
        let row_bytes = (self.cols * self.dtype.bytes()) as u64;
        let mut values = Vec::with_capacity(rows.len() * self.cols);
        for part in &self.parts {
            let begin = rows.start.max(part.first_row);
            let end = rows.end.min(part.first_row + part.n_rows);
            if begin < end {
                let offset = (begin - part.first_row) as u64 * row_bytes;
                let bytes = transfer::read(gpu, &part.buffer, offset, (end - begin) as u64 * row_bytes)?;
                values.extend(widen(self.dtype, &bytes));
            }
        }
        Ok(values)
    }
}

/// Little-endian elements to f32; exact for all three types.
#[must_use]
pub fn widen(dtype: DType, bytes: &[u8]) -> Vec<f32> {
    match dtype {
        DType::F32 => bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect(),
        DType::F16 => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        DType::BF16 => bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
    }
}

/// f32 to little-endian elements, rounded to nearest even. Values beyond f16's range are held at its ends.
#[must_use]
pub fn narrow(dtype: DType, values: &[f32]) -> Vec<u8> {
    let max = f16::MAX.to_f32();
    match dtype {
        DType::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        DType::F16 => values
            .iter()
            .flat_map(|x| f16::from_f32(x.clamp(-max, max)).to_le_bytes())
            .collect(),
        DType::BF16 => values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
    }
}

/// Writes whole rows, converted on the way where the types differ, so that the host never holds a second copy of a whole tensor.
fn write_converted(gpu: &Gpu, buffer: &Buffer, offset: u64, bytes: &[u8], source: DType, target: DType) -> Result<()> {
    // rows are multiples of eight elements
    let convert = Convert {
        source_unit: 8 * source.bytes(),
        target_unit: 8 * target.bytes(),
        run: &|bytes| narrow(target, &widen(source, bytes)),
    };
    transfer::upload(gpu, buffer, offset, bytes, (source != target).then_some(convert))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_all_rows_once() {
        for (rows, row_bytes, max) in [(1, 16, 16), (10, 16, 16), (10, 16, 47), (151_936, 1792, 128 << 20), (7, 100, 50)] {
            let parts = split(rows, row_bytes, max);
            assert_eq!(parts.first().unwrap().start, 0);
            assert_eq!(parts.last().unwrap().end, rows);
            assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert!(parts.iter().all(|part| part.len() as u64 * row_bytes <= max.max(row_bytes)));
        }
        assert_eq!(split(151_936, 1792, 128 << 20).len(), 3);
    }

    #[test]
    fn conversions_round_trip() {
        let values = [0.0, -1.5, 1e5, 65504.0, 1e-3];
        assert_eq!(widen(DType::F32, &narrow(DType::F32, &values)), values);
        assert_eq!(widen(DType::F16, &narrow(DType::F16, &values))[2], 65504.0);
        assert_eq!(widen(DType::BF16, &narrow(DType::BF16, &[1.5, -2.0])), [1.5, -2.0]);
    }
}
