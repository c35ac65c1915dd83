//! Weight matrices, kept in their own width and split by rows where one binding cannot hold them.

use std::{ops::Range, sync::Arc};

use half::{bf16, f16};

use crate::{DType, Elem, Gpu, Result, Tensor, buffer::Buffer, quant, transfer, upload::Convert};

/// Elements that are converted at a time.
const PIECE: usize = 4 << 20;

/// One stretch of rows in a buffer of its own; quantised ones have their scales in a second.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) first_row: usize,
    pub(crate) n_rows: usize,
    pub(crate) buffer: Arc<Buffer>,
    /// f16 `[n_rows, cols / 32]`, read as u32
    pub(crate) scales: Option<Arc<Buffer>>,
}

impl Part {
    /// What a kernel binds that reads the matrix first: the elements, `others`, and the scales at the end if there are any.
    pub(crate) fn bind<'a>(&'a self, others: &[&'a Buffer]) -> Vec<&'a Buffer> {
        let mut buffers = vec![&*self.buffer];
        buffers.extend(others);
        buffers.extend(self.scales.as_deref());
        buffers
    }
}

/// A weight matrix of shape `[rows, cols]`, row-major, `cols` a multiple of [`DType::column_multiple`].
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

/// Rows of each part when `n` units of `unit` rows stay whole, a row takes `row_bytes` and a binding holds `max_binding`.
fn split(n: usize, unit: usize, row_bytes: u64, max_binding: u64) -> Vec<Range<usize>> {
    let fit = usize::try_from((max_binding / (unit as u64 * row_bytes)).max(1)).unwrap_or(usize::MAX);
    let n_parts = n.div_ceil(fit).max(1);
    // equal parts, so that no dispatch is left with a sliver
    let step = n.div_ceil(n_parts).max(1);
    (0..n_parts)
        .map(|i| (i * step).min(n) * unit..((i + 1) * step).min(n) * unit)
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
    /// When `cols` is not a multiple of [`DType::column_multiple`] or a dimension is zero.
    #[track_caller]
    pub fn new(gpu: &Gpu, label: &str, rows: usize, cols: usize, dtype: DType) -> Result<Self> {
        Self::stack(gpu, label, rows, 1, cols, dtype)
    }

    /// `n` matrices of `[rows_each, cols]` one below the other, as the experts of a layer are: a matrix of `n * rows_each` rows whose
    /// parts hold whole ones.
    ///
    /// # Errors
    /// When the adapter has no memory for it.
    ///
    /// # Panics
    /// As [`Matrix::new`].
    #[track_caller]
    pub fn stack(gpu: &Gpu, label: &str, n: usize, rows_each: usize, cols: usize, dtype: DType) -> Result<Self> {
        let rows = n * rows_each;
        assert!(
            rows > 0 && cols > 0 && cols.is_multiple_of(dtype.column_multiple()),
            "matrix {label}: shape [{rows}, {cols}] as {dtype}"
        );
        // a row's scales take less than its elements, and so fit wherever these do
        let row_bytes = dtype.element_bytes(cols) as u64;
        let ranges = split(n, rows_each, row_bytes, gpu.caps().max_binding.min(gpu.caps().max_buffer));
        let part = |range: Range<usize>| -> Result<Part> {
            let n_rows = range.len();
            let scale_bytes = dtype.scale_bytes(n_rows * cols) as u64;
            Ok(Part {
                first_row: range.start,
                n_rows,
                buffer: gpu.buffer(label, n_rows as u64 * row_bytes)?,
                scales: dtype.is_quantised().then(|| gpu.buffer(label, scale_bytes)).transpose()?,
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
            scales: part.scales.clone(),
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

    /// Bytes of all elements, scales included.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.dtype.row_bytes(self.rows * self.cols) as u64
    }

    /// Overwrites whole rows from `first_row` on with little-endian floats of type `source`, converted or quantised where it differs.
    ///
    /// # Errors
    /// When the device has failed or has no memory.
    ///
    /// # Panics
    /// When `bytes` are not whole rows or reach beyond the last one, or `source` is quantised.
    #[track_caller]
    pub fn write_rows(&self, gpu: &Gpu, first_row: usize, source: DType, bytes: &[u8]) -> Result<()> {
        assert!(!source.is_quantised(), "write_rows: from {source}");
        let source_row = source.element_bytes(self.cols);
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
                self.write_part(gpu, part, begin - part.first_row, source, slice)?;
            }
        }
        Ok(())
    }

    /// Whether one binding holds all of it: kernels that join rows from far apart need that.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.parts.len() == 1
    }

    /// Converted on the way where the types differ, and quantised in pieces, so that the host never holds a second copy of a whole
    /// tensor.
    fn write_part(&self, gpu: &Gpu, part: &Part, first_row: usize, source: DType, bytes: &[u8]) -> Result<()> {
        let offset = |row: usize| self.dtype.element_bytes(row * self.cols) as u64;
        let Some(scales) = &part.scales else {
            // rows are multiples of eight elements
            let convert = Convert {
                source_unit: source.element_bytes(8),
                target_unit: self.dtype.element_bytes(8),
                run: &|bytes| narrow(self.dtype, &widen(source, bytes)),
            };
            let convert = (source != self.dtype).then_some(convert);
            return transfer::upload(gpu, &part.buffer, offset(first_row), bytes, convert);
        };
        let piece_rows = (PIECE / self.cols).max(1);
        for (i, piece) in bytes.chunks(piece_rows * source.element_bytes(self.cols)).enumerate() {
            let row = first_row + i * piece_rows;
            let planes = quant::quantise(self.dtype, source, piece);
            transfer::upload(gpu, &part.buffer, offset(row), &planes.elements, None)?;
            transfer::upload(gpu, scales, self.dtype.scale_bytes(row * self.cols) as u64, &planes.scales, None)?;
        }
        Ok(())
    }

    /// The elements as they lie in memory, without scales, if in one part: u32 `[rows, words of a row]`.
    pub(crate) fn whole_as_words(&self) -> Option<Tensor> {
        let [part] = self.parts.as_slice() else { return None };
        Some(Tensor::over(
            part.buffer.clone(),
            self.rows,
            self.dtype.element_bytes(self.cols) / 4,
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
        let mut values = Vec::with_capacity(rows.len() * self.cols);
        for part in &self.parts {
            let begin = rows.start.max(part.first_row);
            let end = rows.end.min(part.first_row + part.n_rows);
            if begin < end {
                let (before, within) = ((begin - part.first_row) * self.cols, (end - begin) * self.cols);
                let read = |buffer: &Buffer, bytes: fn(DType, usize) -> usize| {
                    transfer::read(gpu, buffer, bytes(self.dtype, before) as u64, bytes(self.dtype, within) as u64)
                };
                let elements = read(&part.buffer, DType::element_bytes)?;
                values.extend(match &part.scales {
                    None => widen(self.dtype, &elements),
                    Some(scales) => quant::dequantise(self.dtype, &elements, &read(scales, DType::scale_bytes)?),
                });
            }
        }
        Ok(values)
    }
}

/// What a matrix of type `dtype` keeps of these values, whole rows of them.
///
/// # Panics
/// When a quantised type is given something else than whole blocks.
#[must_use]
#[track_caller]
pub fn stored(dtype: DType, values: &[f32]) -> Vec<f32> {
    if dtype.is_quantised() {
        let planes = quant::quantise(dtype, DType::F32, &narrow(DType::F32, values));
        return quant::dequantise(dtype, &planes.elements, &planes.scales);
    }
    widen(dtype, &narrow(dtype, values))
}

/// Little-endian floats to f32; exact.
///
/// # Panics
/// For quantised types, whose elements are no floats.
#[must_use]
#[track_caller]
pub fn widen(dtype: DType, bytes: &[u8]) -> Vec<f32> {
    match dtype {
        DType::F32 => bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect(),
        DType::F16 => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        DType::BF16 => bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        DType::Q8 | DType::Q4 => panic!("widen: {dtype} is no float type"),
    }
}

/// f32 to little-endian floats, rounded to nearest even. Values beyond f16's range are held at its ends.
///
/// # Panics
/// For quantised types, whose elements are no floats.
#[must_use]
#[track_caller]
pub fn narrow(dtype: DType, values: &[f32]) -> Vec<u8> {
    let max = f16::MAX.to_f32();
    match dtype {
        DType::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        DType::F16 => values
            .iter()
            .flat_map(|x| f16::from_f32(x.clamp(-max, max)).to_le_bytes())
            .collect(),
        DType::BF16 => values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
        DType::Q8 | DType::Q4 => panic!("narrow: {dtype} is no float type"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_all_rows_once() {
        for (rows, row_bytes, max) in [(1, 16, 16), (10, 16, 16), (10, 16, 47), (151_936, 1792, 128 << 20), (7, 100, 50)] {
            let parts = split(rows, 1, row_bytes, max);
            assert_eq!(parts.first().unwrap().start, 0);
            assert_eq!(parts.last().unwrap().end, rows);
            assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert!(parts.iter().all(|part| part.len() as u64 * row_bytes <= max.max(row_bytes)));
        }
        assert_eq!(split(151_936, 1, 1792, 128 << 20).len(), 3);
    }

    #[test]
    fn parts_of_a_stack_hold_whole_matrices() {
        // 64 experts of 5,120 rows of 7,168 bytes, 36.7 MB each: three fit into 128 MiB
        let parts = split(64, 5120, 7168, 128 << 20);
        assert_eq!(parts.len(), 22);
        assert!(
            parts
                .iter()
                .all(|part| part.start % 5120 == 0 && part.end % 5120 == 0 && part.len() <= 3 * 5120)
        );
        assert_eq!(parts.last().unwrap().end, 64 * 5120);
        // one that fits nowhere is a part of its own: the device refuses it
        assert_eq!(split(2, 100, 16, 16), [0..100, 100..200]);
    }

    #[test]
    fn conversions_round_trip() {
        let values = [0.0, -1.5, 1e5, 65504.0, 1e-3];
        assert_eq!(widen(DType::F32, &narrow(DType::F32, &values)), values);
        assert_eq!(widen(DType::F16, &narrow(DType::F16, &values))[2], 65504.0);
        assert_eq!(widen(DType::BF16, &narrow(DType::BF16, &[1.5, -2.0])), [1.5, -2.0]);
    }
}
