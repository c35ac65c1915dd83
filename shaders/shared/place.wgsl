// Where the token of a one-token step goes and by what its heads turn: worked out once a step by embed_step.wgsl, read in every layer.
struct Place {
    block: u32,    // block of the cache
    in_block: u32, // position in it
    turns: array<vec2<f32>>, // [head_dim / 2], (cos, sin) of each pair's angle
}
