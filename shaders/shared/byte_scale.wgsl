// The scale of a block of activations in bytes: x = d q, d the largest magnitude of the block over HIGHEST.

const HIGHEST: f32 = 127.0;
// Below, the inverse of d may overflow: such a block counts as zero.
const SMALLEST: f32 = 1e-30;

// 1 / d.
fn inverse_of(largest: f32) -> f32 {
    if largest >= SMALLEST {
        return HIGHEST / largest;
    }
    return 0.0;
}
