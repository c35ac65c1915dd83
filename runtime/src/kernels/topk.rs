//! The k largest logits of each row with their ids, best first, ties to the lowest id, NaN last: a tournament of sorted chunks.
//!
//! Shapes: logits `[n_rows, vocab]`; values and ids `[n_rows, k]`.

use qwgpu_shaders::Variant;

use super::Handle;
use crate::{Elem, Gpu, Pass, Result, Tensor, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Write, Access::Write];

params! { n: u32, stride: u32, k: u32, first_round: u32, out_stride: u32 }

/// Pairs that one workgroup sorts.
const CHUNK: usize = 1024;

/// The largest k: each round must shrink the field by four at least.
pub const MAX_K: usize = 256;

/// The compiled kernel.
#[derive(Debug)]
pub struct Topk {
    pipeline: Handle,
}

/// Where rounds leave their survivors; two sides that take turns.
#[derive(Debug)]
pub struct Scratch {
    sides: [(Tensor, Tensor); 2],
}

impl Scratch {
    /// Room for `n_rows` rows of `vocab` logits and any k up to `k`.
    ///
    /// # Errors
    /// When the adapter has no room.
    pub fn new(gpu: &Gpu, n_rows: usize, vocab: usize, k: usize) -> Result<Self> {
        let cols = vocab.div_ceil(CHUNK) * k;
        let side = || -> Result<(Tensor, Tensor)> {
            let values = Tensor::new(gpu, "top-k values", n_rows, cols, Elem::F32)?;
            Ok((values, Tensor::new(gpu, "top-k ids", n_rows, cols, Elem::U32)?))
        };
        Ok(Self { sides: [side()?, side()?] })
    }
}

impl Topk {
    /// Compiles it.
    ///
    /// # Errors
    /// When the shader does not compile.
    pub fn new(gpu: &Gpu) -> Result<Self> {
        Ok(Self {
            pipeline: gpu.pipeline(Variant::Topk)?,
        })
    }

    /// The best `values.cols()` of the first `n_valid` logits of each row. Where k exceeds `n_valid`, the surplus ids are `u32::MAX`.
    ///
    /// # Panics
    /// When shapes do not fit or k exceeds [`MAX_K`].
    #[track_caller]
    pub fn dispatch(&self, pass: &mut Pass<'_>, logits: &Tensor, n_valid: usize, scratch: &Scratch, values: &Tensor, ids: &Tensor) {
        let k = values.cols();
        assert!((1..=MAX_K).contains(&k), "topk: k is {k}, at most {MAX_K}");
        assert!(
            n_valid > 0 && n_valid <= logits.cols(),
            "topk: {n_valid} of {} columns",
            logits.cols()
        );
        let room = n_valid.div_ceil(CHUNK) * k <= scratch.sides[0].0.cols() && logits.rows() <= scratch.sides[0].0.rows();
        assert!(room && ids.cols() == k && values.rows() >= logits.rows(), "topk: shapes");
        let (mut n, mut source, mut side) = (n_valid, None, 0);
        loop {
            let n_chunks = n.div_ceil(CHUNK);
            let (next_values, next_ids) = if n_chunks == 1 {
                (values, ids)
            } else {
                (&scratch.sides[side].0, &scratch.sides[side].1)
            };
            // the first round makes up the ids; its binding is filled with the logits, which are not read as ids
            let (from_values, from_ids) = source.unwrap_or((logits, logits));
            let params = Params {
                n: n as u32,
                stride: from_values.cols() as u32,
                k: k as u32,
                first_round: u32::from(source.is_none()),
                out_stride: next_values.cols() as u32,
            };
            let buffers = [&*from_values.buffer, &from_ids.buffer, &next_values.buffer, &next_ids.buffer];
            pass.dispatch(&self.pipeline, &buffers, &params, [n_chunks as u32, logits.rows() as u32, 1]);
            if n_chunks == 1 {
                return;
            }
            source = Some((next_values, next_ids));
            n = n_chunks * k;
            side = 1 - side;
        }
    }
}

/// The definition, for one row of valid logits.
#[must_use]
pub fn reference(logits: &[f32], k: usize) -> Vec<(f32, u32)> {
    let mut pairs: Vec<(f32, u32)> = logits.iter().copied().zip(0..).collect();
    // the two zeros are equal, so partial_cmp; NaN stands apart, so it is never None
    let values = |a: f32, b: f32| b.partial_cmp(&a).unwrap_or(std::cmp::Ordering::Equal);
    pairs.sort_by(|a, b| a.0.is_nan().cmp(&b.0.is_nan()).then(values(a.0, b.0)).then(a.1.cmp(&b.1)));
    pairs.truncate(k);
    pairs
}
