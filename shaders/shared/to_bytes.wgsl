// Activations to signed bytes in blocks of 32: x = d q, d the largest magnitude of the block over 127. What integer dot products need
// of their second operand.
//
// Beside d it leaves d times the sum of the block's q, from which a product with weights d_w (n - z) takes the zero point z out.
//
// An invocation has four activations of a block, so that neighbours read and write neighbours; the eight that have a block tell each
// other of theirs in three steps, with a workgroupBarrier() between them, for which they have the same slots of workgroup memory in
// turn: put_largest, put_word, put_scales. Vectors of four are numbered along x. Needs shared/byte_scale.wgsl.
//
// The kernel binds `bytes`, [n_blocks, 8], and `block_scales`, [n_blocks]. Header: N_SLOTS, a multiple of 8.

var<workgroup> sh_largest: array<f32, N_SLOTS>;
var<workgroup> sh_sums: array<i32, N_SLOTS>;

fn put_largest(slot: u32, values: vec4<f32>) {
    let m = abs(values);
    sh_largest[slot] = max(max(m.x, m.y), max(m.z, m.w));
}

// The whole block's, of which slot is one.
fn largest_of_block(slot: u32) -> f32 {
    let s = slot / 8u * 8u;
    return max(
        max(max(sh_largest[s], sh_largest[s + 1u]), max(sh_largest[s + 2u], sh_largest[s + 3u])),
        max(max(sh_largest[s + 4u], sh_largest[s + 5u]), max(sh_largest[s + 6u], sh_largest[s + 7u])),
    );
}

fn put_word(slot: u32, i: u32, values: vec4<f32>) {
    let q = vec4<i32>(round(values * inverse_of(largest_of_block(slot))));
    bytes[i] = pack4xI8(q);
    sh_sums[slot] = q.x + q.y + q.z + q.w;
}

// For the first vector of a block.
fn put_scales(slot: u32, i: u32) {
    var sum = 0;
    for (var k = 0u; k < 8u; k++) {
        sum += sh_sums[slot + k];
    }
    let d = largest_of_block(slot) / HIGHEST;
    block_scales[i / 8u] = vec2<f32>(d, d * f32(sum));
}
