//! What a one-token step begins with: embedding and place.

use qwgpu_runtime::{
    DType, Gpu, Tensor,
    kernels::{
        embed_step::{EmbedStep, Place},
        rope::Paging,
    },
};

use super::{
    BenchCase, data,
    shapes::{self, Shape},
};

pub(super) fn cases(gpu: &Gpu) -> Vec<BenchCase> {
    shapes::models(gpu).into_iter().map(|model| case(gpu, model)).collect()
}

fn case(gpu: &Gpu, model: Shape) -> BenchCase {
    let dtype = DType::BF16;
    let (vocab, d_model, head_dim) = (shapes::cut(gpu, model.vocab), model.d_model, model.head_dim);
    let name = format!("{} {dtype} [{vocab}, {d_model}]", model.name);
    let bytes = dtype.row_bytes(d_model) + 4 * d_model + 4 * (3 * head_dim + 2) + 16;
    BenchCase::new("embed_step", name, (bytes, 3 * head_dim), move |gpu, copies| {
        let kernel = EmbedStep::new(gpu, &[dtype])?;
        let weights = data::weights(gpu, 1, vocab, d_model, dtype)?.remove(0);
        let table = data::inputs(gpu, 1, 257, head_dim)?.remove(0);
        let rows = data::words(gpu, copies, [1, 4], |i| vec![(i * 7919 % vocab) as u32, 0, 1, 1])?;
        let block_table = Tensor::from_u32(gpu, "block table", 1, 1, &[0])?;
        let outs = data::outputs(gpu, copies, 1, d_model)?;
        let place = Place::new(gpu, head_dim)?;
        Ok(Box::new(move |pass, i| {
            let paging = Paging {
                rows: &rows[i],
                block_table: &block_table,
            };
            kernel.dispatch(pass, &weights, &table, paging, &outs[i], &place);
        }))
    })
}
