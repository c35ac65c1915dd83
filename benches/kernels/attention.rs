//! Attention of 7B's shape: decode counts the bytes of the cache, prefill the multiply-adds under the causal mask.

use criterion::{Criterion, Throughput};
use qwgpu_runtime::{
    Elem, Gpu, KV_BLOCK, Tensor,
    kernels::{
        attention::{Attention, Plan, Query, Scratch, n_splits},
        attention_prefill::tiles,
        rope::{KvLayer, Paging},
    },
};

const HEAD_DIM: usize = 128;
const GROUP: usize = 7;

pub(super) fn bench(criterion: &mut Criterion, gpu: &Gpu) {
    let (n_kv_heads, contexts): (usize, &[usize]) = if gpu.caps().cpu { (1, &[128]) } else { (4, &[512, 8192, 32_768]) };
    let kv = if gpu.caps().f16 { Elem::F16 } else { Elem::F32 };
    let kernel = Attention::new(gpu, kv, HEAD_DIM, GROUP).expect("it compiles");
    let mut group = criterion.benchmark_group("attention");
    for &ctx in contexts {
        for n_tokens in [1, 512.min(ctx)] {
            let cols = n_kv_heads * GROUP * HEAD_DIM;
            let n_blocks = ctx.div_ceil(KV_BLOCK as usize);
            let blocks: Vec<u32> = (0..n_blocks as u32).collect();
            let positions = (ctx - n_tokens) as u32..ctx as u32;
            let rows: Vec<u32> = positions.flat_map(|pos| [0, 0, pos, pos]).collect();
            let cache = KvLayer::new(gpu, n_blocks, n_kv_heads, HEAD_DIM, kv).expect("room");
            let rows = Tensor::from_u32(gpu, "rows", n_tokens, 4, &rows).expect("room");
            let block_table = Tensor::from_u32(gpu, "block table", 1, n_blocks, &blocks).expect("room");
            let q = Tensor::from_f32(gpu, "q", n_tokens, cols, &vec![0.1; n_tokens * cols]).expect("room");
            let out = Tensor::new(gpu, "out", n_tokens, cols, Elem::F32).expect("room");
            let scratch = Scratch::new(gpu, n_tokens, n_kv_heads * GROUP, HEAD_DIM).expect("room");
            let paging = Paging {
                rows: &rows,
                block_table: &block_table,
            };
            let query = Query {
                q: &q,
                cache: &cache,
                paging,
                window: None,
                scale: 0.088,
            };
            let (plan, work) = if n_tokens == 1 {
                let bytes = 2 * ctx * n_kv_heads * HEAD_DIM * kv.bytes();
                (Plan::Split(n_splits(gpu, 1, n_kv_heads, ctx)), Throughput::Bytes(bytes as u64))
            } else {
                let tiles = tiles(&vec![0; n_tokens], GROUP);
                let tiles = Tensor::from_u32(gpu, "tiles", tiles.len(), 2, tiles.as_flattened()).expect("room");
                let pairs = n_tokens * (2 * ctx - n_tokens + 1) / 2;
                (Plan::Tiled(tiles), Throughput::Elements((2 * pairs * cols) as u64))
            };
            let name = format!("{kv:?} {n_tokens} rows at {ctx}");
            super::measure(&mut group, gpu, &name, work, |pass| {
                kernel.dispatch(pass, &query, &plan, &scratch, &out)
            });
        }
    }
}
