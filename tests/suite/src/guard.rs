//! Outputs with a poisoned border: what a kernel writes where it should not is seen, and what it does not write stays NaN.

use qwgpu_runtime::{Elem, Gpu, Result, Tensor};

use crate::Failure;

/// Rows of poison behind each output and input.
const GUARD_ROWS: usize = 2;

/// A NaN with a payload that no kernel makes: the bits of every guarded element before the run.
pub const POISON: u32 = 0x7fc0_dead;

/// An f32 or u32 output `[rows, cols]` with two rows more behind it, all poisoned.
#[derive(Debug)]
pub struct Guarded {
    whole: Tensor,
    out: Tensor,
    /// Whether the output was poisoned too, so that every element has to be written.
    poisoned: bool,
}

impl Guarded {
    /// Allocates and poisons it.
    ///
    /// # Errors
    /// When the adapter has no room.
    pub fn new(gpu: &Gpu, rows: usize, cols: usize, elem: Elem) -> Result<Self> {
        let whole = Tensor::new(gpu, "guarded", rows + GUARD_ROWS, cols, elem)?;
        whole.write(gpu, &vec![POISON; (rows + GUARD_ROWS) * cols]);
        let out = whole.narrow(rows);
        Ok(Self {
            whole,
            out,
            poisoned: true,
        })
    }

    /// The same, but holding `values` instead of poison: for kernels that add to what is there.
    ///
    /// # Errors
    /// As [`Guarded::new`].
    pub fn holding(gpu: &Gpu, rows: usize, cols: usize, values: &[f32]) -> Result<Self> {
        let guarded = Self::new(gpu, rows, cols, Elem::F32)?;
        guarded.out.write(gpu, values);
        Ok(Self {
            poisoned: false,
            ..guarded
        })
    }

    /// The part that a kernel may write.
    #[must_use]
    pub const fn out(&self) -> &Tensor {
        &self.out
    }

    fn split<T: Copy>(&self, mut all: Vec<T>, bits: impl Fn(T) -> u32) -> std::result::Result<Vec<T>, Failure> {
        let (n, cols) = (self.out.rows() * self.out.cols(), self.out.cols());
        if let Some(i) = all[n..].iter().position(|&x| bits(x) != POISON) {
            return Err(Failure::new(format!(
                "wrote {i} elements past the end of [{}, {cols}]",
                self.out.rows()
            )));
        }
        if self.poisoned
            && let Some(i) = all[..n].iter().position(|&x| bits(x) == POISON)
        {
            return Err(Failure::new(format!("never wrote [{}, {}]", i / cols, i % cols)));
        }
        all.truncate(n);
        Ok(all)
    }

    /// The output, after everything submitted has run.
    ///
    /// # Errors
    /// When the guard was written to, an element was not, or the device has failed.
    pub fn read_f32(&self, gpu: &Gpu) -> std::result::Result<Vec<f32>, Failure> {
        self.split(self.whole.read_f32(gpu)?, f32::to_bits)
    }

    /// As [`Guarded::read_f32`].
    ///
    /// # Errors
    /// The same.
    pub fn read_u32(&self, gpu: &Gpu) -> std::result::Result<Vec<u32>, Failure> {
        self.split(self.whole.read_u32(gpu)?, |x| x)
    }
}

/// Another NaN, behind inputs: results keep a NaN's payload, so a kernel that reads past an input and writes past its output would
/// otherwise leave the output's own poison there.
const INPUT_POISON: u32 = 0x7fc0_0bad;

/// An input `[rows, cols]` with rows of NaN behind it.
///
/// # Errors
/// When the adapter has no room.
pub fn padded(gpu: &Gpu, rows: usize, cols: usize, values: &[f32]) -> Result<Tensor> {
    let whole = Tensor::new(gpu, "padded", rows + GUARD_ROWS, cols, Elem::F32)?;
    whole.write(gpu, &vec![INPUT_POISON; (rows + GUARD_ROWS) * cols]);
    let input = whole.narrow(rows);
    input.write(gpu, values);
    Ok(input)
}
