// A block of 32 activations to signed bytes: x = d q, d the largest magnitude of the block over 127. What integer dot products need of
// their second operand.
//
// Beside d it leaves d times the sum of the block's q, from which a product with weights d_w (n - z) takes the zero point z out.
// The kernel binds `bytes`, [n_blocks, 2], and `block_scales`, [n_blocks].

const HIGHEST: f32 = 127.0;
// Below, the inverse of d may overflow: such a block counts as zero.
const SMALLEST: f32 = 1e-30;

fn put_block(block: u32, values: array<vec4<f32>, 8>) {
    var most = vec4<f32>(0.0);
    for (var k = 0u; k < 8u; k++) {
        most = max(most, abs(values[k]));
    }
    let largest = max(max(most.x, most.y), max(most.z, most.w));
    var inverse = 0.0;
    if largest >= SMALLEST {
        inverse = HIGHEST / largest;
    }
    var words: array<u32, 8>;
    var sum = vec4<i32>(0);
    for (var k = 0u; k < 8u; k++) {
        let q = vec4<i32>(round(values[k] * inverse));
        words[k] = pack4xI8(q);
        sum += q;
    }
    let d = largest / HIGHEST;
    bytes[2u * block] = vec4<u32>(words[0], words[1], words[2], words[3]);
    bytes[2u * block + 1u] = vec4<u32>(words[4], words[5], words[6], words[7]);
    block_scales[block] = vec2<f32>(d, d * f32(sum.x + sum.y + sum.z + sum.w));
}
