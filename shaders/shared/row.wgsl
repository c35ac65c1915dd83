// One row of a batch: a token and where it stands. Written by the host or by the GPU itself, read by every kernel that needs it.
struct Row {
    token: u32,   // id, a row of the embedding
    slot: u32,    // sequence, a row of the block table
    pos: u32,     // position in the sequence: the cache entry it fills, and the last one it sees
    rope_pos: u32, // position that the rotation uses; equals pos in ordinary attention
}
