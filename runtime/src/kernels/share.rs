//! How a product with one token shares out its matrix, by the matrix's type and shape and the adapter: the tables to tune for
//! [`super::matvec`], [`super::norm_qkv_rope`], [`super::norm_gate_up`] and their like for experts.

use qwgpu_shaders::{Reduce, Split};

use super::{Handle, PerDType, reduce};
use crate::{Caps, DType, Gpu, Result};

/// What one workgroup has: so many invocations for so many rows of the matrix, one of [`qwgpu_shaders::STEP_SHARES`]. They share the
/// columns of every row, or where there are more rows, each has rows of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Share {
    /// Invocations.
    pub workgroup: u32,
    /// Rows of the matrix.
    pub rows: u32,
}

/// A line of the table: the most rows and columns of a matrix that it is for, and its share.
type Line = (usize, usize, Share);

const fn line(rows_up_to: usize, columns_up_to: usize, workgroup: u32, rows: u32) -> Line {
    (rows_up_to, columns_up_to, Share { workgroup, rows })
}

const ANY: usize = usize::MAX;

/// GPUs with subgroups, tuned on an H100. Two or four rows read x once for all; rows of many columns are shared out to more invocations,
/// so that each takes few turns, and matrices of few rows are cut finer, so that there are some workgroups for each multiprocessor.
const SUBGROUPS: &[Line] = &[
    line(2048, 1024, 128, 2),
    line(2048, ANY, 256, 2),
    line(ANY, 1024, 64, 4),
    line(1 << 16, 2048, 64, 4),
    line(ANY, 2048, 128, 2),
    line(4095, ANY, 256, 4),
    line(8191, ANY, 128, 4),
    line(ANY, ANY, 256, 2),
];

/// The same for quantised weights, of which a load brings an invocation four or eight bytes instead of sixteen. Few turns matter more
/// than many rows: with one turn fewer, 7B's output product in q4 takes 14 us instead of 24.
const SUBGROUPS_QUANTISED: &[Line] = &[
    line(1023, 2048, 128, 1),
    line(1023, ANY, 256, 1),
    line(2048, 1024, 128, 2),
    line(2048, ANY, 256, 2),
    line(ANY, 1024, 32, 4),
    line(ANY, 2048, 128, 2),
    line(ANY, ANY, 256, 2),
];

/// GPUs without: the sum at the end takes a step for each invocation, so there are fewer.
const NO_SUBGROUPS: &[Line] = &[line(1023, ANY, 64, 1), line(2047, ANY, 64, 2), line(ANY, ANY, 64, 4)];

/// CPU drivers run one workgroup a core and its invocations in vectors, where a load of what all lanes share costs as much as one lane's
/// load of its own: rows to invocations, and x is the same for all.
const CPU: &[Line] = &[line(ANY, ANY, 8, 32)];

const fn table(caps: &Caps, dtype: DType) -> &'static [Line] {
    match (caps.cpu, caps.subgroup, dtype.is_quantised()) {
        (true, _, _) => CPU,
        (false, true, true) => SUBGROUPS_QUANTISED,
        (false, true, false) => SUBGROUPS,
        (false, false, _) => NO_SUBGROUPS,
    }
}

impl Share {
    /// The line for a matrix `[rows, columns]`: the first that reaches. Kernels that join rows pass how many they need `at_least`.
    fn of(table: &[Line], [rows, columns]: [usize; 2], at_least: u32) -> Self {
        let reaches = |(rows_up_to, columns_up_to, _): &&Line| rows <= *rows_up_to && columns <= *columns_up_to;
        let (_, _, share) = table.iter().find(reaches).expect("each table's last line is for any matrix");
        share.joining(at_least)
    }

    /// Every share that [`Share::of`] may give.
    fn all(table: &[Line], at_least: u32) -> Vec<Self> {
        let mut all = Vec::new();
        for (_, _, share) in table {
            let share = share.joining(at_least);
            if !all.contains(&share) {
                all.push(share);
            }
        }
        all
    }

    fn joining(self, at_least: u32) -> Self {
        Self {
            rows: self.rows.max(at_least),
            ..self
        }
    }

    /// Whether invocations have rows of their own.
    pub(crate) const fn is_by_rows(self) -> bool {
        Split::is_by_rows(self.workgroup, self.rows)
    }

    /// How its workgroup shares out its rows.
    pub(crate) const fn split(self, caps: &Caps) -> Split {
        if self.is_by_rows() {
            Split::Rows
        } else {
            Split::Columns(self.reduce(caps))
        }
    }

    /// How its workgroup adds up.
    pub(crate) const fn reduce(self, caps: &Caps) -> Reduce {
        reduce(caps, self.workgroup)
    }
}

/// A kernel in each form that this adapter may choose, compiled.
#[derive(Debug)]
pub(crate) struct Forms {
    forms: Vec<(Share, Handle)>,
    table: &'static [Line],
    at_least: u32,
}

impl Forms {
    /// All that may be chosen here for weights of a type, of a kernel that joins `at_least` so many rows.
    pub(crate) fn new(caps: &Caps, dtype: DType, at_least: u32, make: impl Fn(Share) -> Result<Handle>) -> Result<Self> {
        let table = table(caps, dtype);
        let form = |share| Ok((share, make(share)?));
        Ok(Self {
            forms: Share::all(table, at_least).into_iter().map(form).collect::<Result<_>>()?,
            table,
            at_least,
        })
    }

    /// One form for every matrix.
    pub(crate) fn only(share: Share, handle: Handle) -> Self {
        Self {
            forms: vec![(share, handle)],
            table: &[],
            at_least: 1,
        }
    }

    /// The form for a matrix of this shape.
    pub(crate) fn of(&self, shape: [usize; 2]) -> (Share, &Handle) {
        let form = match self.forms.as_slice() {
            [only] => only,
            forms => {
                let wanted = Share::of(self.table, shape, self.at_least);
                let form = forms.iter().find(|(share, _)| *share == wanted);
                form.expect("Forms::new compiles all that Share::of gives")
            }
        };
        (form.0, &form.1)
    }
}

/// `pipeline` compiles one form.
impl PerDType<Forms> {
    /// All that the tables may choose for these weight types, of a kernel that joins `at_least` so many rows.
    pub(crate) fn by_table(
        gpu: &Gpu,
        dtypes: &[DType],
        at_least: u32,
        pipeline: impl Fn(&Gpu, DType, Share) -> Result<Handle>,
    ) -> Result<Self> {
        Self::new(dtypes, |dtype| {
            Forms::new(gpu.caps(), dtype, at_least, |share| pipeline(gpu, dtype, share))
        })
    }

    /// One form for every matrix of these weight types.
    pub(crate) fn only(gpu: &Gpu, dtypes: &[DType], share: Share, pipeline: impl Fn(&Gpu, DType, Share) -> Result<Handle>) -> Result<Self> {
        Self::new(dtypes, |dtype| Ok(Forms::only(share, pipeline(gpu, dtype, share)?)))
    }

    /// The same for those of them that are quantised.
    pub(crate) fn only_quantised(
        gpu: &Gpu,
        dtypes: &[DType],
        share: Share,
        pipeline: impl Fn(&Gpu, DType, Share) -> Result<Handle>,
    ) -> Result<Self> {
        let quantised: Vec<DType> = dtypes.iter().copied().filter(|dtype| dtype.is_quantised()).collect();
        Self::only(gpu, &quantised, share, pipeline)
    }
}

#[cfg(test)]
mod tests {
    use qwgpu_shaders::STEP_SHARES;

    use super::*;

    #[test]
    fn every_table_ends_with_a_line_for_any_matrix_and_names_forms_that_exist() {
        for table in [SUBGROUPS, SUBGROUPS_QUANTISED, NO_SUBGROUPS, CPU] {
            let (rows, columns, _) = table.last().unwrap();
            assert_eq!((*rows, *columns), (ANY, ANY));
            for (_, _, share) in table {
                assert!(STEP_SHARES.contains(&(share.workgroup, share.rows)), "{share:?}");
            }
        }
    }
}
