// Unsigned 64-bit integers as (low, high) words.
alias U64 = vec2<u32>;

fn add64(a: U64, b: U64) -> U64 {
    let low = a.x + b.x;
    return U64(low, a.y + b.y + select(0u, 1u, low < a.x));
}

fn sub64(a: U64, b: U64) -> U64 {
    return U64(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x));
}

fn less64(a: U64, b: U64) -> bool {
    return a.y < b.y || (a.y == b.y && a.x < b.x);
}

// The product of two words, by halves: WGSL has no wide multiplication.
fn product(a: u32, b: u32) -> U64 {
    let low = (a & 0xffffu) * (b & 0xffffu);
    let cross = (a >> 16u) * (b & 0xffffu) + (low >> 16u); // at most 0xfffe0001 + 0xfffe
    let middle = (a & 0xffffu) * (b >> 16u) + (cross & 0xffffu);
    let high = (a >> 16u) * (b >> 16u) + (cross >> 16u) + (middle >> 16u);
    return U64(a * b, high);
}

// a * b / 2^32, rounded down: for b / 2^32 in [0, 1), that share of a.
fn share(a: U64, b: u32) -> U64 {
    return add64(product(a.y, b), U64(product(a.x, b).y, 0u));
}
