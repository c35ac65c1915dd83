// Where a key or value lies in the paged cache [n_blocks, n_kv_heads, KV_BLOCK, head_dim], in units of vec4.
//
// Header: HEAD_DIM, KV_BLOCK (positions in a block).

const HEAD_VECS: u32 = HEAD_DIM / 4u;

// First vec4 of position `in_block` of `kv_head` in block `block`.
fn kv_index(block: u32, kv_head: u32, n_kv_heads: u32, in_block: u32) -> u32 {
    return ((block * n_kv_heads + kv_head) * KV_BLOCK + in_block) * HEAD_VECS;
}
