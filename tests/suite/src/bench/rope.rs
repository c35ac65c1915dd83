//! Rotation and cache write for one token and for a chunk. Every turn writes other blocks of the one cache.

use qwgpu_runtime::{
    Elem, Gpu, KV_BLOCK, Tensor,
    kernels::rope::{KvLayer, Paging, Rope},
};

use super::{
    BenchCase, data,
    shapes::{self, Shape},
};

/// Rows of the table beyond the first 256: positions up to 32,768.
const N_HI: usize = 128;

pub(super) fn cases(gpu: &Gpu) -> Vec<BenchCase> {
    let mut cases = Vec::new();
    for model in shapes::models(gpu) {
        cases.extend(shapes::token_counts(gpu).map(|n_tokens| case(gpu, model, n_tokens)));
    }
    cases
}

fn case(gpu: &Gpu, model: Shape, n_tokens: usize) -> BenchCase {
    let kv = shapes::kv(gpu);
    let Shape {
        n_heads,
        n_kv_heads,
        head_dim,
        ..
    } = model;
    let (q_cols, kv_cols) = (n_heads * head_dim, 2 * n_kv_heads * head_dim);
    let name = format!("{} {} cache, tokens: {n_tokens}", model.name, name_of(kv));
    let bytes = n_tokens * (4 * model.qkv() + 4 * q_cols + kv.bytes() * kv_cols + 16);
    let flops = 3 * n_tokens * (q_cols + kv_cols / 2);
    BenchCase::new("rope", name, (bytes, flops), move |gpu, copies| {
        let kernel = Rope::new(gpu, kv, head_dim)?;
        let qkvs = data::inputs(gpu, copies, n_tokens, model.qkv())?;
        let table = data::inputs(gpu, 1, 256 + N_HI, head_dim)?.remove(0);
        let n_blocks = n_tokens.div_ceil(KV_BLOCK as usize);
        let cache = KvLayer::new(gpu, copies * n_blocks, n_kv_heads, head_dim, kv)?;
        let rows: Vec<u32> = (0..n_tokens as u32).flat_map(|pos| [0, 0, pos, pos]).collect();
        let rows = Tensor::from_u32(gpu, "rows", n_tokens, 4, &rows)?;
        let block_tables = data::words(gpu, copies, [1, n_blocks], |i| {
            (0..n_blocks).map(|block| (i * n_blocks + block) as u32).collect()
        })?;
        let qs = data::outputs(gpu, copies, n_tokens, q_cols)?;
        Ok(Box::new(move |pass, i| {
            let paging = Paging {
                rows: &rows,
                block_table: &block_tables[i],
            };
            kernel.dispatch(pass, &qkvs[i], &table, paging, &qs[i], &cache);
        }))
    })
}

pub(super) fn name_of(elem: Elem) -> &'static str {
    if elem == Elem::F16 { "f16" } else { "f32" }
}
