//! Activations to signed bytes in blocks of 32: `x = d q` with d the largest magnitude of a block over 127.
//!
//! Shapes: x `[n_rows, cols]`, bytes u32 `[n_rows, cols / 4]`, block_scales f32 `[n_rows * cols / 32, 2]`: d, and d times the sum of the
//! block's q. Rows follow each other without a gap.

use qwgpu_shaders::{QUANTIZE_WORKGROUP, Variant};

use super::Handle;
use crate::{BLOCK, Caps, DType, Elem, Gpu, Matrix, Pass, Result, Tensor, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[Access::Read, Access::Write, Access::Write];

params! { n_blocks: u32 }

/// Activations as bytes, for at most so many as it was made for.
#[derive(Debug)]
pub struct Bytes {
    /// Behind the bytes there is room for the scales once more: [`super::norm_quantize`] leaves them there for kernels that have no
    /// binding left.
    pub(crate) bytes: Tensor,
    pub(crate) block_scales: Tensor,
    room: usize,
}

impl Bytes {
    /// Room for `cols` activations, of a row or of several together.
    ///
    /// # Errors
    /// When the adapter has no memory for it.
    pub fn new(gpu: &Gpu, cols: usize) -> Result<Self> {
        let blocks = cols / BLOCK;
        Ok(Self {
            // two words a block, rounded up to a vector of four
            bytes: Tensor::new(gpu, "activation bytes", 1, 8 * blocks + (2 * blocks).next_multiple_of(4), Elem::U32)?,
            block_scales: Tensor::new(gpu, "activation scales", blocks, 2, Elem::F32)?,
            room: blocks * BLOCK,
        })
    }

    /// Activations that it has room for.
    #[must_use]
    pub const fn room(&self) -> usize {
        self.room
    }

    /// Words before the scales that lie behind the bytes, a multiple of eight.
    pub(crate) const fn scales_at(&self) -> usize {
        self.room / 4
    }

    /// The bytes as words, and the two numbers of each block.
    ///
    /// # Errors
    /// When the device has failed.
    pub fn read(&self, gpu: &Gpu) -> Result<(Vec<u32>, Vec<f32>)> {
        let mut words = self.bytes.read_u32(gpu)?;
        words.truncate(self.scales_at());
        Ok((words, self.block_scales.read_f32(gpu)?))
    }

    /// The two numbers of each block as they lie behind the bytes.
    ///
    /// # Errors
    /// When the device has failed.
    pub fn read_joined(&self, gpu: &Gpu) -> Result<Vec<f32>> {
        let words = self.bytes.read_u32(gpu)?;
        let scales = words[self.scales_at()..].iter().map(|&word| f32::from_bits(word));
        Ok(scales.take(self.room / BLOCK * 2).collect())
    }
}

/// The compiled kernel.
#[derive(Debug)]
pub struct Quantize {
    pipeline: Handle,
}

impl Quantize {
    /// Compiles it.
    ///
    /// # Errors
    /// When the shader does not compile.
    pub fn new(gpu: &Gpu) -> Result<Self> {
        Ok(Self {
            pipeline: gpu.pipeline(Variant::Quantize)?,
        })
    }

    /// Quantises the first row of x.
    ///
    /// # Panics
    /// When its columns are not a multiple of 32, or more than `out` has room for.
    #[track_caller]
    pub fn dispatch(&self, pass: &mut Pass<'_>, x: &Tensor, out: &Bytes) {
        self.dispatch_rows(pass, &x.narrow(1), out);
    }

    /// Quantises all rows of x, which follow each other in `out`.
    ///
    /// # Panics
    /// When its columns are not a multiple of 32, or it holds more than `out` has room for.
    #[track_caller]
    pub fn dispatch_rows(&self, pass: &mut Pass<'_>, x: &Tensor, out: &Bytes) {
        let n = x.rows() * x.cols();
        assert!(
            x.cols().is_multiple_of(BLOCK) && n <= out.room(),
            "quantize: {} rows of {} columns into {}",
            x.rows(),
            x.cols(),
            out.room()
        );
        let n_blocks = (n / BLOCK) as u32;
        let buffers = [&*x.buffer, &out.bytes.buffer, &out.block_scales.buffer];
        let n_workgroups = (8 * n_blocks).div_ceil(QUANTIZE_WORKGROUP); // eight vectors of four in a block
        pass.dispatch(&self.pipeline, &buffers, &Params { n_blocks }, [n_workgroups, 1, 1]);
    }
}

/// Whether products of one token with weights of this type are ever worth turning its activations to bytes.
#[must_use]
pub const fn pays(caps: &Caps, dtype: DType) -> bool {
    dtype.is_quantised() && caps.dot && caps.dot_is_fast
}

/// Elements of a matrix from which a product with integer dot products makes up for turning its input to bytes. Smaller ones are read so
/// quickly that the f32 kernels are done before. The line lies above the output product of 7B (12.8 million elements), which would need a
/// dispatch more for it, and below the feed-forward of 1.5B (27.5 and 13.8 million), which in q4 takes an H100 a sixth less time a token so.
pub const ENOUGH: usize = 13 << 20;

/// The same for the matrix of queries, keys and values: below that of 7B and 57B-A14B (16.5 million elements), above that of 1.5B (3.1).
pub const ENOUGH_QKV: usize = 15 << 20;

/// Whether these weights are of a type and a size for integer dot products: the rule for all dense products of one token but
/// [`is_qkv_for_bytes`], on adapters where such products pay. Experts, of which a token reads many together, follow [`pays`] alone.
#[must_use]
pub const fn is_for_bytes(weights: &Matrix) -> bool {
    weights.dtype().is_quantised() && weights.rows() * weights.cols() >= ENOUGH
}

/// The same for the matrix of queries, keys and values.
#[must_use]
pub const fn is_qkv_for_bytes(weights: &Matrix) -> bool {
    weights.dtype().is_quantised() && weights.rows() * weights.cols() >= ENOUGH_QKV
}

/// One block of [`reference()`].
#[derive(Clone, Debug)]
pub struct Block {
    /// The scale.
    pub d: f64,
    /// The integers.
    pub q: [i8; BLOCK],
    /// Elements so near to the middle of two integers that rounding in f32 may give either.
    pub ties: Vec<usize>,
}

/// The definition, block by block, for x of a multiple of 32 elements. Below 1e-30 a block counts as zero.
#[must_use]
pub fn reference(x: &[f32]) -> Vec<Block> {
    let block = |x: &[f32]| {
        let largest = x.iter().fold(0.0, |m: f64, &x| m.max(f64::from(x).abs()));
        let scaled = |k: usize| if largest < 1e-30 { 0.0 } else { f64::from(x[k]) * 127.0 / largest };
        let is_tie = |k: &usize| (scaled(*k).abs().fract() - 0.5).abs() < 1e-4;
        Block {
            d: largest / 127.0,
            q: std::array::from_fn(|k| scaled(k).round() as i8),
            ties: (0..BLOCK).filter(is_tie).collect(),
        }
    };
    x.chunks_exact(BLOCK).map(block).collect()
}
