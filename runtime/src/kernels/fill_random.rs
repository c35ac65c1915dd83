//! Reproducible random weights made on the GPU, for benchmarks that have no checkpoint.
//!
//! Element i of the row-major matrix is `scale * u(seed, i)` with u uniform in [-1, 1); no row repeats another. In a quantised matrix
//! it is the value of its block's grid that is nearest to that.

use qwgpu_shaders::Variant;

use super::{Handle, fold};
use crate::{DType, Gpu, Matrix, Pass, Result, buffer::Buffer, matrix::Part, pipeline::Access, quant::q4::Grid};

pub(crate) const BINDINGS: &[Access] = &[Access::Write];

params! { n_words: u32, first_word: u32, seed: u32, format: u32, scale: f32, least: u32, grid_x: u32 }

/// The compiled kernel.
#[derive(Debug)]
pub struct FillRandom {
    pipeline: Handle,
}

impl FillRandom {
    /// Compiles it.
    ///
    /// # Errors
    /// When the shader does not compile.
    pub fn new(gpu: &Gpu) -> Result<Self> {
        Ok(Self {
            pipeline: gpu.pipeline(Variant::FillRandom)?,
        })
    }

    /// Fills the whole matrix.
    pub fn dispatch(&self, pass: &mut Pass<'_>, matrix: &Matrix, seed: u32, scale: f32) {
        let (format, scales_format) = match matrix.dtype() {
            DType::F32 => (0, None),
            DType::F16 => (1, None),
            DType::BF16 => (2, None),
            DType::Q8 => (3, Some(5)),
            DType::Q4 => (4, Some(6)),
        };
        let mut fill = |buffer: &Buffer, part: &Part, format: u32, words_per_row: usize| {
            let n_words = part.n_rows * words_per_row;
            let grid = fold(pass.gpu(), n_words.div_ceil(64));
            let params = Params {
                n_words: n_words as u32,
                first_word: (part.first_row * words_per_row) as u32,
                seed,
                format,
                scale,
                least: least_code(scale).into(),
                grid_x: grid[0] * 64,
            };
            pass.dispatch(&self.pipeline, &[buffer], &params, grid);
        };
        for part in &matrix.parts {
            fill(&part.buffer, part, format, matrix.dtype().element_bytes(matrix.cols()) / 4);
            if let (Some(scales), Some(format)) = (&part.scales, scales_format) {
                fill(scales, part, format, matrix.dtype().scale_bytes(matrix.cols()) / 4);
            }
        }
    }
}

/// The grid of a block in a quantised matrix: its step, and its zero point in steps. It reaches `scale` either way, and up to a quarter
/// further (a little more in q4, where few scales exist). For q8 the step is not rounded to f16 yet.
///
/// # Panics
/// For a float type.
#[must_use]
pub fn block_grid(dtype: DType, seed: u32, block: u32, scale: f32) -> (f32, f32) {
    match dtype {
        DType::Q8 => (scale * (1.0 + 0.25 * reference(seed, block).abs()) / 127.0, 0.0),
        DType::Q4 => {
            let h = hash(seed, block);
            let zero = 7.0 + (h & 15) as f32 / 8.0;
            let code = least_code(scale) + (h >> 30) as u16;
            (Grid { code, zero }.scale(), zero)
        }
        DType::F32 | DType::F16 | DType::BF16 => panic!("block_grid: {dtype} has none"),
    }
}

/// The smallest scale of q4 with which a grid reaches `scale` either way: its zero point leaves six steps and an eighth on each side.
fn least_code(scale: f32) -> u16 {
    Grid::code_below(scale / 6.125) + 1
}

/// u(seed, i): the same bits as `fill_random.wgsl` makes.
#[must_use]
pub fn reference(seed: u32, i: u32) -> f32 {
    (hash(seed, i) >> 8) as f32 * 2f32.powi(-23) - 1.0
}

fn hash(seed: u32, i: u32) -> u32 {
    let mix = |x: u32| {
        let h = (x ^ (x >> 16)).wrapping_mul(0x85eb_ca6b);
        let h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
        h ^ (h >> 16)
    };
    mix(mix(i ^ seed).wrapping_add(0x9e37_79b9_u32.wrapping_mul(seed)).wrapping_add(1))
}
