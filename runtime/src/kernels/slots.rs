//! What the kernels of one token's experts share: the stack that a matrix of experts is, and the slots that take from it.

use qwgpu_shaders::MAX_SLOTS;

use crate::{Elem, Matrix, Tensor, matrix::Part};

/// The experts of a layer one below the other, the slices of the shared one last: [`Matrix::stack`] with the names of its dimensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stack<'a> {
    pub(crate) matrix: &'a Matrix,
    /// Experts that are chosen from.
    pub(crate) n_experts: usize,
    /// Slices of the shared expert.
    pub(crate) n_shared: usize,
    /// Rows of one expert.
    pub(crate) rows_each: usize,
}

/// Experts of a stack that lie in one part of its matrix.
pub(crate) struct Here<'a> {
    pub(crate) part: &'a Part,
    pub(crate) first_expert: u32,
    pub(crate) n_here: u32,
}

impl<'a> Stack<'a> {
    /// Panics for `kernel` unless the matrix is such a stack and `chosen` the experts of one token among it. Gives its number of slots.
    #[track_caller]
    pub(crate) fn slots_of(&self, kernel: &str, chosen: &Tensor) -> usize {
        let (n, rows) = (self.n_experts + self.n_shared, self.matrix.rows());
        assert_eq!(rows, n * self.rows_each, "{kernel}: rows of {n} experts");
        assert_eq!(
            (chosen.rows(), chosen.elem()),
            (1, Elem::U32),
            "{kernel}: the chosen experts of one token"
        );
        let (k, n_slots) = (chosen.cols(), chosen.cols() + self.n_shared);
        assert!(
            k <= self.n_experts && n_slots <= MAX_SLOTS as usize,
            "{kernel}: {k} of {} experts and {} slices of the shared one, {MAX_SLOTS} at most",
            self.n_experts,
            self.n_shared
        );
        n_slots
    }

    /// What a kernel runs once for.
    ///
    /// # Panics
    /// When an expert reaches over two parts: the matrix was not made by [`Matrix::stack`].
    #[track_caller]
    pub(crate) fn parts(&self) -> impl Iterator<Item = Here<'a>> {
        let rows = self.rows_each;
        let whole = |part: &Part| part.first_row.is_multiple_of(rows) && part.n_rows.is_multiple_of(rows);
        assert!(
            self.matrix.parts.iter().all(whole),
            "a stack whose parts cut experts of {rows} rows"
        );
        self.matrix.parts.iter().map(move |part| Here {
            part,
            first_expert: (part.first_row / rows) as u32,
            n_here: (part.n_rows / rows) as u32,
        })
    }
}
