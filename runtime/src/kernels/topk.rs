//! Candidates of a draw under top-k: the best k of each chunk of 2,048 logits, in order of id. The best k of the row are among them,
//! and [`sample`](super::sample) finds them there.
//!
//! Shapes: logits `[n_rows, vocab]`; keys and ids u32 `[n_rows, n_candidates]`. A key is the logit as an integer in the order of
//! choice, see [`key`]. Ties go to the lower id, NaN stands last.

use qwgpu_shaders::Variant;

use super::Handle;
use crate::{Gpu, Pass, Result, Tensor, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[Access::Read, Access::Write, Access::Write];

params! { n: u32, stride: u32, k: u32, out_stride: u32 }

/// Logits of one workgroup.
pub const CHUNK: usize = 2048;

/// The largest k: each chunk leaves an eighth at most.
pub const MAX_K: usize = 256;

/// The compiled kernel.
#[derive(Debug)]
pub struct Topk {
    pipeline: Handle,
}

/// Candidates that a row of `n_valid` logits leaves.
#[must_use]
pub const fn n_candidates(n_valid: usize, k: usize) -> usize {
    n_valid.div_ceil(CHUNK) * k
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

    /// Leaves [`n_candidates`] for each row of the first `n_valid` columns of `logits`, rows following each other without a gap. Where
    /// a chunk has fewer than k logits, the surplus ids are `u32::MAX` and their keys 0.
    ///
    /// # Panics
    /// When shapes do not fit or k exceeds [`MAX_K`].
    #[track_caller]
    pub fn dispatch(&self, pass: &mut Pass<'_>, logits: &Tensor, n_valid: usize, k: usize, keys: &Tensor, ids: &Tensor) {
        assert!((1..=MAX_K).contains(&k), "topk: k is {k}, at most {MAX_K}");
        assert!(
            n_valid > 0 && n_valid <= logits.cols(),
            "topk: {n_valid} of {} columns",
            logits.cols()
        );
        let n_out = n_candidates(n_valid, k);
        let room = keys.rows() * keys.cols();
        assert!(
            logits.rows() * n_out <= room && ids.rows() * ids.cols() == room,
            "topk: {n_out} candidates of {} rows in a room for {room}",
            logits.rows()
        );
        let params = Params {
            n: n_valid as u32,
            stride: logits.cols() as u32,
            k: k as u32,
            out_stride: n_out as u32,
        };
        let grid = [n_valid.div_ceil(CHUNK) as u32, logits.rows() as u32, 1];
        pass.dispatch(&self.pipeline, &[&logits.buffer, &keys.buffer, &ids.buffer], &params, grid);
    }
}

/// A logit as an integer that is larger the sooner it is chosen: 0 for NaN, the same for both zeros.
#[must_use]
pub const fn key(logit: f32) -> u32 {
    let bits = logit.to_bits();
    if logit.is_nan() {
        0
    } else if logit == 0.0 {
        1 << 31
    } else if bits >> 31 == 0 {
        bits | 1 << 31
    } else {
        !bits
    }
}

/// The definition, for one row of valid logits: (key, id).
#[must_use]
pub fn reference(logits: &[f32], k: usize) -> Vec<(u32, u32)> {
    let mut candidates = Vec::new();
    for (chunk, values) in logits.chunks(CHUNK).enumerate() {
        let mut best: Vec<(u32, u32)> = values.iter().map(|&x| key(x)).zip((chunk * CHUNK) as u32..).collect();
        best.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        best.truncate(k);
        best.sort_by_key(|&(_, id)| id);
        best.resize(k, (0, u32::MAX));
        candidates.extend(best);
    }
    candidates
}
