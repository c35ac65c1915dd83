//! What the cases of both products with a stack of experts share: one product as data, and its check.

use qwgpu_runtime::{
    DType, Elem, Gpu, Matrix, Pass, Tensor,
    kernels::{
        group_experts::{self, Groups},
        matmul_coop::grids,
        matmul_experts::{self, Direction, ExpertsProduct, MatmulExperts},
        to_f16::{Operand, ToF16},
    },
};

use super::{
    Checked,
    places::places,
    product::{Source, Weights, expected, halves_bound},
};
use crate::{Axis, Case, Guarded, Mode, compare, fill, fill::Fill, padded, routing::Routing};

/// Products that a case's reference adds up.
const MAX_PRODUCTS: usize = 1 << 23;
/// Outputs of a case whose weights are read back row by row.
const MAX_READS: usize = 64;

pub(super) const DIRECTIONS: [Direction; 2] = [Direction::Gather, Direction::Scatter];

/// Who computes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kernel {
    /// The tiled product.
    Tiled,
    /// The product on matrix units, with so many subgroups to each side of a tile.
    Coop(u32),
    /// What the host takes on this adapter.
    Chosen,
}

/// How many experts there are, how many a token chooses, and in how many slices the shared one lies behind them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stack {
    pub(super) n_experts: usize,
    pub(super) k: usize,
    pub(super) n_shared: usize,
}

impl Stack {
    pub(super) const fn new([k, n_experts, n_shared]: [usize; 3]) -> Self {
        Self { n_experts, k, n_shared }
    }

    const fn len(self) -> usize {
        self.n_experts + self.n_shared
    }

    const fn n_slots(self) -> usize {
        self.k + self.n_shared
    }
}

/// One product.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) kernel: Kernel,
    pub(super) dtype: DType,
    pub(super) stack: Stack,
    /// Rows of one expert.
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) n_tokens: usize,
    pub(super) routing: Routing,
    pub(super) direction: Direction,
    pub(super) weights: Source,
    pub(super) x: Fill,
}

impl Shape {
    /// Plain values; as many columns as the type allows next.
    pub(super) const fn new(kernel: Kernel, dtype: DType, stack: Stack, [rows, cols, n_tokens]: [usize; 3]) -> Self {
        Self {
            kernel,
            dtype,
            stack,
            rows,
            cols: cols.next_multiple_of(dtype.column_multiple()),
            n_tokens,
            routing: Routing::Spread,
            direction: Direction::Gather,
            weights: Source::Host(Fill::Plain),
            x: Fill::Plain,
        }
    }

    fn name(&self) -> String {
        let kernel = match self.kernel {
            Kernel::Tiled => String::new(),
            Kernel::Coop(side) => format!("{side} x {side} subgroups, "),
            Kernel::Chosen => "as chosen, ".into(),
        };
        let fill = match (self.weights, self.x) {
            (Source::Device, _) => ", weights made on the device".into(),
            (_, Fill::Plain) => String::new(),
            (_, x) => format!(", x {x}"),
        };
        let Stack { n_experts, k, n_shared } = self.stack;
        let (dtype, rows, cols, n_tokens) = (self.dtype, self.rows, self.cols, self.n_tokens);
        let (routing, direction) = (self.routing, self.direction);
        format!("{kernel}{dtype} [{rows}, {cols}] x {n_tokens}, {k} of {n_experts} experts and {n_shared}, {routing}, {direction:?}{fill}")
    }

    /// The case, in every mode that has another text for it.
    pub(super) fn case(self) -> Case {
        let stem = match self.kernel {
            Kernel::Coop(_) => "matmul_experts_coop",
            Kernel::Tiled | Kernel::Chosen => "matmul_experts",
        };
        let case = Case::new(stem, self.name(), move |gpu| check(gpu, &self)).over(self.axes(false));
        match self.kernel {
            Kernel::Coop(2) => case.with_coop(|caps| grids(caps).iter().any(|grid| grid.side == 2)),
            Kernel::Coop(_) => case.with_coop(|caps| grids(caps).iter().any(|grid| grid.side == 4)),
            Kernel::Tiled | Kernel::Chosen => case,
        }
    }

    /// The case, also with a stack that is split over several bindings.
    ///
    /// # Panics
    /// When the smallest binding would hold the stack, or would not hold one expert or the rest.
    pub(super) fn split_case(self) -> Case {
        let bytes = |n: usize| self.dtype.element_bytes(n * self.rows * self.cols) as u64;
        assert!(bytes(self.stack.len()) > Mode::SMALL_BINDING && bytes(1) <= Mode::SMALL_BINDING);
        let padded_pairs = self.n_tokens * self.stack.n_slots() + 2;
        assert!((padded_pairs * self.cols.max(self.rows) * 4) as u64 <= Mode::SMALL_BINDING);
        let mut case = self.case();
        case.name += ", splittable";
        case.over(self.axes(true))
    }

    /// The way in which f16 weights are read is another text.
    const fn axes(&self, split: bool) -> &'static [Axis] {
        match (self.kernel, self.dtype, split) {
            (Kernel::Chosen, ..) => &[], // the choice is what it is there for
            (_, DType::F16, false) => &[Axis::F16],
            (_, DType::F16, true) => &[Axis::F16, Axis::Binding],
            (_, _, false) => &[],
            (_, _, true) => &[Axis::Binding],
        }
    }

    const fn n_pairs(&self) -> usize {
        self.n_tokens * self.stack.n_slots()
    }

    const fn n_x(&self) -> usize {
        match self.direction {
            Direction::Gather => self.n_tokens,
            Direction::Scatter => self.n_pairs(),
        }
    }

    fn on_matrix_units(&self, gpu: &Gpu) -> bool {
        match self.kernel {
            Kernel::Tiled => false,
            Kernel::Coop(_) => true,
            Kernel::Chosen => !grids(gpu.caps()).is_empty(),
        }
    }

    /// Places in the list and rows of an expert whose outputs are compared: all of a small product, some of a large one.
    fn sampled(&self) -> (Vec<usize>, Vec<usize>) {
        if self.weights == Source::Device {
            return (places(self.n_pairs(), MAX_READS / 4, 9), places(self.rows, 4, 10));
        }
        let budget = MAX_PRODUCTS / self.cols;
        let pairs = places(self.n_pairs(), budget, 9);
        let rows = places(self.rows, budget.div_ceil(pairs.len()), 10);
        (pairs, rows)
    }
}

/// Pairs and offsets as the reference has them, on the device too.
struct Lists {
    pairs: Vec<u32>,
    offsets: Vec<u32>,
    groups: Groups,
}

impl Lists {
    fn new(gpu: &Gpu, s: &Shape) -> qwgpu_runtime::Result<Self> {
        let Stack { n_experts, k, n_shared } = s.stack;
        let chosen = s.routing.chosen(s.n_tokens, k, n_experts);
        let (pairs, offsets) = group_experts::reference(&chosen, k, n_experts, n_shared);
        let groups = Groups {
            pairs: Tensor::from_u32(gpu, "pairs", s.n_tokens, s.stack.n_slots(), &pairs)?,
            offsets: Tensor::from_u32(gpu, "offsets", 1, offsets.len(), &offsets)?,
        };
        Ok(Self { pairs, offsets, groups })
    }

    fn expert_at(&self, place: usize) -> usize {
        self.offsets.partition_point(|&offset| offset as usize <= place) - 1
    }
}

/// The product on matrix units; for an odd number of tokens with x in the operand beforehand, and nothing but NaN in x itself.
fn run_coop(gpu: &Gpu, kernel: &MatmulExperts, pass: &mut Pass<'_>, product: &ExpertsProduct<'_>) -> qwgpu_runtime::Result<()> {
    let (n_x, cols) = (product.x.rows(), product.x.cols());
    let (true, Some(operand)) = (product.n_tokens % 2 == 1, product.operand) else {
        kernel.dispatch_coop(pass, product);
        return Ok(());
    };
    ToF16::new(gpu)?.dispatch(pass, product.x, n_x, operand);
    let x = &padded(gpu, n_x, cols, &vec![f32::NAN; n_x * cols])?;
    let in_operand = true;
    kernel.dispatch_coop(pass, &ExpertsProduct { x, in_operand, ..*product });
    Ok(())
}

fn run(gpu: &Gpu, s: &Shape, product: &ExpertsProduct<'_>) -> qwgpu_runtime::Result<()> {
    let kernel = match s.kernel {
        Kernel::Tiled => MatmulExperts::tiled_only(gpu, s.dtype)?,
        Kernel::Coop(side) => {
            let grid = grids(gpu.caps()).into_iter().find(|grid| grid.side == side);
            MatmulExperts::coop_only(gpu, s.dtype, grid.expect("cases say which grid they need"))?
        }
        Kernel::Chosen => MatmulExperts::new(gpu, &[s.dtype])?,
    };
    let mut pass = Pass::new(gpu);
    match s.kernel {
        Kernel::Tiled => kernel.dispatch_tiled(&mut pass, product),
        Kernel::Coop(_) => run_coop(gpu, &kernel, &mut pass, product)?,
        Kernel::Chosen => kernel.dispatch(&mut pass, product),
    }
    pass.submit();
    Ok(())
}

fn check(gpu: &Gpu, s: &Shape) -> Checked {
    let lists = Lists::new(gpu, s)?;
    // one expert more, of NaN
    let whole = Matrix::stack(gpu, "experts", s.stack.len() + 1, s.rows, s.cols, s.dtype)?;
    let weights = Weights::within(gpu, &whole, s.stack.len() * s.rows, s.weights)?;
    let x = fill::values(s.x, 6, s.n_x(), s.cols);
    let x_tensor = padded(gpu, s.n_x(), s.cols, &x)?;
    let out = Guarded::new(gpu, s.n_pairs(), s.rows, Elem::F32)?;
    let operand = Operand::new(gpu, s.n_x(), s.cols)?;
    let product = ExpertsProduct {
        weights: &weights.matrix,
        rows_each: s.rows,
        x: &x_tensor,
        groups: &lists.groups,
        n_tokens: s.n_tokens,
        direction: s.direction,
        out: out.out(),
        operand: Some(&operand),
        in_operand: false,
    };
    run(gpu, s, &product)?;
    let (places, rows) = s.sampled();
    let mut all = Vec::with_capacity(places.len() * rows.len());
    for place in places {
        let pair = lists.pairs[place] as usize;
        let (x_row, out_row) = matmul_experts::reference(s.direction, pair, place, s.stack.n_slots());
        let x_row = &x[x_row * s.cols..][..s.cols];
        for &r in &rows {
            let weights_row = weights.row(gpu, lists.expert_at(place) * s.rows + r)?;
            let mut expected = expected(s.dtype, &weights_row, x_row, &[]);
            if s.on_matrix_units(gpu) {
                expected.bound += halves_bound(&weights_row, x_row);
            }
            all.push((out_row * s.rows + r, expected));
        }
    }
    compare::sampled("out", s.rows, &out.read_f32(gpu)?, all)
}
