// Logits as integers in the order of choice: larger keys first. NaN has the lowest key, 0; both zeros have the same.
fn key_of(bits: u32) -> u32 {
    let magnitude = bits & 0x7fffffffu;
    if magnitude > 0x7f800000u {
        return 0u; // NaN; the bits are asked, since a compiler may fold x != x away
    }
    if magnitude == 0u {
        return 0x80000000u;
    }
    // the bits of a positive float rise with it, those of a negative one fall
    return select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u);
}

// The logit of a key that is not NaN's.
fn logit_of(key: u32) -> f32 {
    return bitcast<f32>(select(~key, key & 0x7fffffffu, (key >> 31u) == 1u));
}
