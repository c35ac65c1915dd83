//! Prefill's products with experts in tiles: both matrices of a layer for a chunk of tokens that choose any experts.

use qwgpu_runtime::{
    DType, Gpu, Tensor,
    kernels::{
        group_experts::{self, Groups},
        matmul_experts::{Direction, ExpertsProduct, MatmulExperts},
        to_f16::Operand,
    },
};

use super::{
    BenchCase, data,
    shapes::{self, Experts},
};
use crate::routing::Routing;

const DTYPES: [DType; 2] = [DType::BF16, DType::Q4];

pub(super) fn cases(gpu: &Gpu) -> Vec<BenchCase> {
    both_matrices(gpu, "matmul_experts", shapes::token_counts(gpu)[1])
}

/// The cases of one of the two kernels.
pub(super) fn both_matrices(gpu: &Gpu, stem: &'static str, n_tokens: usize) -> Vec<BenchCase> {
    let experts = shapes::experts(gpu);
    let directions = [Direction::Gather, Direction::Scatter];
    let all = DTYPES.into_iter().flat_map(|dtype| directions.map(|direction| (dtype, direction)));
    all.map(|(dtype, direction)| product(stem, experts, dtype, direction, n_tokens))
        .collect()
}

fn product(stem: &'static str, experts: Experts, dtype: DType, direction: Direction, n_tokens: usize) -> BenchCase {
    let (n_stack, n_slots) = (experts.n_stack(), experts.n_slots());
    let n_pairs = n_tokens * n_slots;
    let (what, rows_each, cols, n_x) = match direction {
        Direction::Gather => ("gate_up", 2 * experts.d_ff, experts.d_model, n_tokens),
        Direction::Scatter => ("down", experts.d_model, experts.d_ff, n_pairs),
    };
    let name = format!("{} {what} {dtype} {n_stack} of [{rows_each}, {cols}] x {n_tokens}", experts.name);
    let bytes = dtype.row_bytes(n_stack * rows_each * cols) + 4 * (n_x * cols + n_pairs * rows_each);
    BenchCase::new(stem, name, (bytes, 2 * n_pairs * rows_each * cols), move |gpu, copies| {
        let kernel = MatmulExperts::new(gpu, &[dtype])?;
        let weights = data::stacks(gpu, copies, [n_stack, rows_each, cols], dtype)?;
        let xs = data::inputs(gpu, copies, n_x, cols)?;
        let outs = data::outputs(gpu, copies, n_pairs, rows_each)?;
        let groups = groups(gpu, &experts, n_tokens)?;
        let operand = if stem == "matmul_experts_coop" {
            Some(Operand::new(gpu, n_x, cols)?)
        } else {
            None
        };
        Ok(Box::new(move |pass, i| {
            let product = ExpertsProduct {
                weights: &weights[i],
                rows_each,
                x: &xs[i],
                groups: &groups,
                n_tokens,
                direction,
                out: &outs[i],
                operand: operand.as_ref(),
                in_operand: false,
            };
            kernel.dispatch(pass, &product);
        }))
    })
}

/// What tokens would choose that any expert suits.
fn groups(gpu: &Gpu, experts: &Experts, n_tokens: usize) -> qwgpu_runtime::Result<Groups> {
    let ids = Routing::Spread.chosen(n_tokens, experts.k, experts.n_experts);
    let (pairs, offsets) = group_experts::reference(&ids, experts.k, experts.n_experts, experts.n_shared);
    Ok(Groups {
        pairs: Tensor::from_u32(gpu, "pairs", n_tokens, experts.n_slots(), &pairs)?,
        offsets: Tensor::from_u32(gpu, "offsets", 1, offsets.len(), &offsets)?,
    })
}
