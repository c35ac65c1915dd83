//! Rows to f16 for the matrix units: `out[t] = f16(x[t] * 2^e)`, `scales[t] = 2^-e`, the row's largest magnitude in [2^14, 2^15).
//!
//! Shapes: x `[n_tokens, cols]`, out `[n_tokens, cols]` in f16, scales `[n_tokens]`; cols a multiple of 8. Qwen2 has activations of
//! 3e5 and more, beyond f16; a power of two a row keeps them, and costs the others nothing as long as they are above 2^-28 of them.

use qwgpu_shaders::Variant;

use super::Handle;
use crate::{Elem, Gpu, Pass, Result, Tensor, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[Access::Read, Access::Write, Access::Write];

params! { groups: u32 }

/// Room for rows as the matrix units take them.
#[derive(Debug)]
pub struct Operand {
    /// Two f16 a word, u32 `[max_rows, max_cols / 2]`, used densely for however many columns.
    pub(crate) values: Tensor,
    /// f32 `[1, max_rows]`
    pub(crate) scales: Tensor,
}

impl Operand {
    /// Bytes that [`Operand::new`] will take.
    #[must_use]
    pub const fn bytes(max_rows: usize, max_cols: usize) -> u64 {
        (max_rows * (max_cols * 2 + 4)) as u64
    }

    /// Room for `max_rows` rows of `max_cols` columns.
    ///
    /// # Errors
    /// When the adapter has no room.
    pub fn new(gpu: &Gpu, max_rows: usize, max_cols: usize) -> Result<Self> {
        Ok(Self {
            values: Tensor::new(gpu, "f16 operand", max_rows, max_cols.div_ceil(2), Elem::U32)?,
            scales: Tensor::new(gpu, "f16 operand scales", 1, max_rows, Elem::F32)?,
        })
    }

    /// Panics for `kernel` unless there is room.
    #[track_caller]
    pub(crate) fn check(&self, kernel: &str, n_rows: usize, cols: usize) {
        assert!(cols.is_multiple_of(8), "{kernel}: {cols} columns");
        assert!(
            n_rows <= self.scales.cols() && n_rows * cols / 2 <= self.values.rows() * self.values.cols(),
            "{kernel}: no room for {n_rows} rows of {cols}"
        );
    }

    /// The rows that a dispatch left here: f16 bits of `n_rows * cols` values, and the scales.
    ///
    /// # Errors
    /// When the device has failed.
    pub fn read(&self, gpu: &Gpu, n_rows: usize, cols: usize) -> Result<(Vec<u16>, Vec<f32>)> {
        let words = self.values.read_u32(gpu)?;
        let halves = bytemuck::cast_slice::<u32, u16>(&words)[..n_rows * cols].to_vec();
        let mut scales = self.scales.read_f32(gpu)?;
        scales.truncate(n_rows);
        Ok((halves, scales))
    }
}

/// The compiled kernel.
#[derive(Debug)]
pub struct ToF16 {
    pipeline: Handle,
}

impl ToF16 {
    /// Compiles it.
    ///
    /// # Errors
    /// When the shader does not compile.
    pub fn new(gpu: &Gpu) -> Result<Self> {
        Ok(Self {
            pipeline: gpu.pipeline(Variant::ToF16)?,
        })
    }

    /// The first `n_tokens` rows of `x` into `out`.
    ///
    /// # Panics
    /// When there is no room, or the columns are not a multiple of 8.
    #[track_caller]
    pub fn dispatch(&self, pass: &mut Pass<'_>, x: &Tensor, n_tokens: usize, out: &Operand) {
        let cols = x.cols();
        assert!(n_tokens <= x.rows(), "to_f16: {n_tokens} rows of {}", x.rows());
        out.check("to_f16", n_tokens, cols);
        let params = Params { groups: (cols / 8) as u32 };
        let buffers = [&*x.buffer, &out.values.buffer, &out.scales.buffer];
        pass.dispatch(&self.pipeline, &buffers, &params, [n_tokens as u32, 1, 1]);
    }
}

/// The definition of the scale: 2^-e for a row of f32. A row whose largest magnitude lies below 2^-112 is held at e = 126.
#[must_use]
pub fn scale(x: &[f32]) -> f32 {
    let largest = x.iter().fold(0.0f32, |max, v| max.max(v.abs()));
    let exponent = (largest.to_bits() >> 23).clamp(15, 254);
    f32::from_bits((exponent - 14) << 23)
}

/// The definition of the values, before rounding to f16.
#[must_use]
pub fn reference(x: &[f32]) -> Vec<f32> {
    let scale = scale(x);
    x.iter().map(|v| v / scale).collect()
}
