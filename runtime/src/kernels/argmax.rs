//! Greedy choice: the id of the largest of the first `n_valid` logits of each row, ties to the lowest id.
//!
//! Shapes: logits `[n_rows, vocab]`, rows u32 `[n_rows, 4]` (see [`Row`](super::Row)). The id becomes the row's token, and both of its
//! positions go up by one, so that the next pass finds its input without the host's help. Two rounds, so that a vocabulary is read by
//! many workgroups at once.

use qwgpu_shaders::Variant;

use super::{Handle, reduce};
use crate::{Elem, Gpu, Pass, Result, Tensor, buffer::Buffer, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Write, Access::Write];

params! { n: u32, stride: u32, first_round: u32, last_round: u32 }

/// Candidates of one workgroup.
const CHUNK: usize = 2048;

/// The compiled kernel.
#[derive(Debug)]
pub struct Argmax {
    pipeline: Handle,
}

/// Where the first round leaves its winners, and the second one the value of the choice.
#[derive(Debug)]
pub struct Scratch {
    values: Tensor,
    ids: Tensor,
    best: Tensor,
}

impl Scratch {
    /// Room for `n_rows` rows of `vocab` logits.
    ///
    /// # Errors
    /// When the adapter has no room.
    pub fn new(gpu: &Gpu, n_rows: usize, vocab: usize) -> Result<Self> {
        let n_chunks = vocab.div_ceil(CHUNK);
        Ok(Self {
            values: Tensor::new(gpu, "argmax values", n_rows, n_chunks, Elem::F32)?,
            ids: Tensor::new(gpu, "argmax ids", n_rows, n_chunks, Elem::U32)?,
            best: Tensor::new(gpu, "argmax best", n_rows, 1, Elem::F32)?,
        })
    }
}

impl Argmax {
    /// Compiles it.
    ///
    /// # Errors
    /// When the shader does not compile.
    pub fn new(gpu: &Gpu) -> Result<Self> {
        Ok(Self {
            pipeline: gpu.pipeline(Variant::Argmax {
                reduce: reduce(gpu.caps(), 256),
            })?,
        })
    }

    /// Chooses an id for each row of `logits`, and advances each of `rows`.
    ///
    /// # Panics
    /// When shapes do not fit, or a row has more than 4,194,304 logits.
    #[track_caller]
    pub fn dispatch(&self, pass: &mut Pass<'_>, logits: &Tensor, n_valid: usize, scratch: &Scratch, rows: &Tensor) {
        let (n_rows, n_chunks) = (logits.rows(), n_valid.div_ceil(CHUNK));
        assert!(
            n_valid > 0 && n_valid <= logits.cols() && n_chunks <= CHUNK,
            "argmax: {n_valid} of {} columns",
            logits.cols()
        );
        let room = n_rows <= scratch.values.rows() && n_chunks <= scratch.values.cols();
        assert!(
            room && rows.rows() >= n_rows && rows.cols() == 4,
            "argmax: no room for {n_rows} rows"
        );
        if n_chunks == 1 {
            // ids are made up in the first round: their binding is filled with the logits, and not read
            let buffers = [&*logits.buffer, &logits.buffer, &scratch.best.buffer, &rows.buffer];
            return self.round(pass, &buffers, n_valid, logits.cols(), n_rows, (true, true));
        }
        let (values, winners) = (&*scratch.values.buffer, &*scratch.ids.buffer);
        self.round(
            pass,
            &[&logits.buffer, &logits.buffer, values, winners],
            n_valid,
            logits.cols(),
            n_rows,
            (true, false),
        );
        let buffers = [values, winners, &scratch.best.buffer, &rows.buffer];
        self.round(pass, &buffers, n_chunks, n_chunks, n_rows, (false, true));
    }

    /// One round over `n` candidates of each row; `(first, last)` says which.
    fn round(&self, pass: &mut Pass<'_>, buffers: &[&Buffer], n: usize, stride: usize, n_rows: usize, (first, last): (bool, bool)) {
        let params = Params {
            n: n as u32,
            stride: stride as u32,
            first_round: first.into(),
            last_round: last.into(),
        };
        let grid = [n.div_ceil(CHUNK) as u32, n_rows as u32, 1];
        pass.dispatch(&self.pipeline, buffers, &params, grid);
    }
}

/// The definition, for one row of valid logits. NaN is never chosen; a row of nothing else, or of -inf alone, gives 0.
#[must_use]
pub fn reference(logits: &[f32]) -> u32 {
    let mut best = (f32::MIN, None);
    for (id, &x) in (0..).zip(logits) {
        if x > best.0 || (x == best.0 && best.1.is_none()) {
            best = (x, Some(id));
        }
    }
    best.1.unwrap_or(0)
}
