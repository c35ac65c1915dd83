//! Activations, caches and index lists on the GPU: a buffer with two dimensions and an element type.

use std::sync::Arc;

use half::f16;

use crate::{Gpu, Result, buffer::Buffer, transfer};

/// Element type of a [`Tensor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Elem {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// Unsigned 32-bit integers: ids, positions, tables.
    U32,
}

impl Elem {
    /// Bytes of one element.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 | Self::U32 => 4,
            Self::F16 => 2,
        }
    }
}

/// A row-major matrix of shape `[rows, cols]` in one buffer. Clones share the buffer.
///
/// More dimensions are folded into `cols`: queries are `[n_tokens, n_heads * head_dim]`.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub(crate) buffer: Arc<Buffer>,
    rows: usize,
    cols: usize,
    elem: Elem,
}

impl Tensor {
    /// Zeros.
    ///
    /// # Errors
    /// When the adapter's limits or its memory do not allow the size.
    pub fn new(gpu: &Gpu, label: &str, rows: usize, cols: usize, elem: Elem) -> Result<Self> {
        let bytes = rows as u64 * cols as u64 * elem.bytes() as u64;
        Ok(Self {
            buffer: gpu.buffer(label, bytes)?,
            rows,
            cols,
            elem,
        })
    }

    /// `n` tensors of the same shape in one allocation. A pass runs dispatches that write different ones in order, as it would if they
    /// wrote the same: what benchmarks need that must not read what they have just written.
    ///
    /// # Errors
    /// As [`Tensor::new`], of which one buffer holds all.
    pub fn several(gpu: &Gpu, label: &str, n: usize, rows: usize, cols: usize, elem: Elem) -> Result<Vec<Self>> {
        let bytes = rows as u64 * cols as u64 * elem.bytes() as u64;
        let buffers = gpu.buffers(label, bytes, n as u64)?;
        Ok(buffers.into_iter().map(|buffer| Self::over(buffer, rows, cols, elem)).collect())
    }

    /// A view of a buffer that is large enough.
    pub(crate) const fn over(buffer: Arc<Buffer>, rows: usize, cols: usize, elem: Elem) -> Self {
        Self { buffer, rows, cols, elem }
    }

    /// A tensor with these f32 values, `rows * cols` of them.
    ///
    /// # Errors
    /// As [`Tensor::new`].
    pub fn from_f32(gpu: &Gpu, label: &str, rows: usize, cols: usize, values: &[f32]) -> Result<Self> {
        let tensor = Self::new(gpu, label, rows, cols, Elem::F32)?;
        tensor.write(gpu, values);
        Ok(tensor)
    }

    /// A tensor with these u32 values, `rows * cols` of them.
    ///
    /// # Errors
    /// As [`Tensor::new`].
    pub fn from_u32(gpu: &Gpu, label: &str, rows: usize, cols: usize, values: &[u32]) -> Result<Self> {
        let tensor = Self::new(gpu, label, rows, cols, Elem::U32)?;
        tensor.write(gpu, values);
        Ok(tensor)
    }

    /// Rows.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    #[must_use]
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// Element type.
    #[must_use]
    pub const fn elem(&self) -> Elem {
        self.elem
    }

    /// Bytes of `rows * cols` elements.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.rows as u64 * self.cols as u64 * self.elem.bytes() as u64
    }

    /// The first `rows` rows, sharing the buffer: how one activation serves batches of any size.
    ///
    /// # Panics
    /// When there are fewer rows.
    #[must_use]
    #[track_caller]
    pub fn narrow(&self, rows: usize) -> Self {
        assert!(rows <= self.rows, "narrow: {rows} rows of a tensor of {}", self.rows);
        Self { rows, ..self.clone() }
    }

    /// The same memory from its start as another shape, in which elements follow each other without a gap.
    ///
    /// # Panics
    /// When there are fewer elements.
    #[must_use]
    #[track_caller]
    pub fn reshape(&self, rows: usize, cols: usize) -> Self {
        let (wanted, there) = (rows * cols, self.rows * self.cols);
        assert!(wanted <= there, "reshape: {rows} x {cols} elements of {there}");
        Self {
            rows,
            cols,
            ..self.clone()
        }
    }

    /// Overwrites the tensor from its start. Takes effect before any pass that is submitted later.
    ///
    /// # Panics
    /// When `values` are more than the tensor holds, or not of its element size.
    #[track_caller]
    pub fn write<T: bytemuck::NoUninit>(&self, gpu: &Gpu, values: &[T]) {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        assert_eq!(
            size_of::<T>() % self.elem.bytes(),
            0,
            "write: elements of {} bytes into {:?}",
            size_of::<T>(),
            self.elem
        );
        assert!(
            bytes.len() as u64 <= self.bytes(),
            "write: {} bytes into a tensor of {}",
            bytes.len(),
            self.bytes()
        );
        transfer::write(gpu, &self.buffer, 0, bytes);
    }

    /// All elements as f32 (f16 is widened), after everything submitted so far has run.
    ///
    /// # Errors
    /// When the device has failed.
    ///
    /// # Panics
    /// On a u32 tensor.
    pub fn read_f32(&self, gpu: &Gpu) -> Result<Vec<f32>> {
        let bytes = transfer::read(gpu, &self.buffer, 0, self.bytes())?;
        Ok(self.widen(&bytes))
    }

    /// Bytes as they lie in the buffer, to f32.
    pub(crate) fn widen(&self, bytes: &[u8]) -> Vec<f32> {
        match self.elem {
            Elem::F32 => bytemuck::pod_collect_to_vec(bytes),
            Elem::F16 => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            Elem::U32 => panic!("read_f32 of a u32 tensor"),
        }
    }

    /// All elements of a u32 tensor, after everything submitted so far has run.
    ///
    /// # Errors
    /// When the device has failed.
    ///
    /// # Panics
    /// On a float tensor.
    pub fn read_u32(&self, gpu: &Gpu) -> Result<Vec<u32>> {
        assert_eq!(self.elem, Elem::U32, "read_u32 of a float tensor");
        Ok(bytemuck::pod_collect_to_vec(&transfer::read(gpu, &self.buffer, 0, self.bytes())?))
    }
}
