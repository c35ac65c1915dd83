//! The random numbers of sampling: Philox4x32-10, counter-based.
//!
//! A number is a function of a key and a counter and nothing else, so there is no generator state to carry along: the draw of a
//! position is the same whether the tokens before it were computed now or came from a prefix kept in the cache.
//!
//! Source: J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC11, and the known answers of
//! its library Random123 (`tests/kat_vectors`).

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
/// The golden ratio and the square root of 3 less one, as 32-bit fractions.
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const N_ROUNDS: usize = 10;

/// One block of Philox4x32-10: 128 random bits.
fn philox4x32(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..N_ROUNDS {
        let product = |index: usize| u64::from(counter[2 * index]) * u64::from(MULTIPLIERS[index]);
        let (first, second) = (product(0), product(1));
        counter = [
            high(second) ^ counter[1] ^ key[0],
            low(second),
            high(first) ^ counter[3] ^ key[1],
            low(first),
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// A number in [0, 1), a multiple of 2^-53, from the first 53 bits of block `step` under the key `seed`.
#[must_use]
pub fn uniform(seed: u64, step: u64) -> f64 {
    let block = philox4x32([low(step), high(step), 0, 0], [low(seed), high(seed)]);
    let bits = u64::from(block[0]) << 32 | u64::from(block[1]);
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

fn low(word: u64) -> u32 {
    word as u32
}

fn high(word: u64) -> u32 {
    (word >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        // Random123, tests/kat_vectors, lines "philox4x32 10".
        let cases = [
            ([0; 4], [0; 2], [0x6627_E8D5, 0xE169_C58D, 0xBC57_AC4C, 0x9B00_DBD8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408F_276D, 0x41C8_3B0E, 0xA20B_C7C6, 0x6D54_51FD]),
            (
                [0x243F_6A88, 0x85A3_08D3, 0x1319_8A2E, 0x0370_7344],
                [0xA409_3822, 0x299F_31D0],
                [0xD16C_FE09, 0x94FD_CCEB, 0x5001_E420, 0x2412_6EA1],
            ),
        ];
        for (counter, key, expected) in cases {
            assert_eq!(philox4x32(counter, key), expected);
        }
    }

    #[test]
    fn uniform_takes_the_first_53_bits() {
        // The first known answer: 0x6627e8d5e169c58d >> 11, over 2^53.
        assert_eq!(uniform(0, 0), 0x000C_C4FD_1ABC_2D38_u64 as f64 / 9_007_199_254_740_992.0);
        assert!((0..10_000).all(|step| (0.0..1.0).contains(&uniform(u64::MAX, step))));
        // All bits of seed and step count.
        let first = uniform(1, 2);
        for bit in 0..64 {
            assert_ne!(uniform(1 ^ (1 << bit), 2), first);
            assert_ne!(uniform(1, 2 ^ (1 << bit)), first);
        }
    }
}
