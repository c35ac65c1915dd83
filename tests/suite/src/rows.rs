//! Rows of a batch that a kernel advances: each gets a token, and both of its positions go up by one.

use qwgpu_runtime::{Elem, Gpu, Result, Tensor, kernels::Row};

use crate::{Failure, Guarded, fill};

/// Rows with different slots and positions, and a guard behind them.
#[derive(Debug)]
pub(crate) struct Rows {
    before: Vec<Row>,
    guarded: Guarded,
}

impl Rows {
    /// `n_rows` of them, at positions below 5,000.
    pub(crate) fn new(gpu: &Gpu, n_rows: usize) -> Result<Self> {
        // every other token has the last bit of a word of seen ids
        let last_bit = |i: u64| if i % 2 == 1 { 31 } else { 0 };
        let row = |i: u64| Row {
            token: (fill::hash(40, i) % 960) | last_bit(i),
            slot: 3 * i as u32 + 1,
            pos: fill::hash(41, i) % 5000,
            rope_pos: fill::hash(42, i) % 5000,
        };
        let before: Vec<Row> = (0..n_rows as u64).map(row).collect();
        let guarded = Guarded::new(gpu, n_rows, 4, Elem::U32)?;
        guarded.out().write(gpu, &before);
        Ok(Self { before, guarded })
    }

    /// u32 `[n_rows, 4]`
    pub(crate) const fn out(&self) -> &Tensor {
        self.guarded.out()
    }

    /// As they were.
    pub(crate) fn before(&self) -> &[Row] {
        &self.before
    }

    /// As they are.
    pub(crate) fn read(&self, gpu: &Gpu) -> std::result::Result<Vec<u32>, Failure> {
        self.guarded.read_u32(gpu)
    }

    /// As they have to be once these tokens were chosen.
    pub(crate) fn advanced(&self, tokens: &[u32]) -> Vec<u32> {
        let row = |(row, &token): (&Row, &u32)| [token, row.slot, row.pos + 1, row.rope_pos + 1];
        self.before.iter().zip(tokens).flat_map(row).collect()
    }
}
