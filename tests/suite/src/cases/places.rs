//! Which rows of a large result are compared.

use crate::fill;

/// The rows that a tile, a workgroup or an invocation begins or ends with, in tiles of 64 rows in quarters.
const EDGES: [usize; 8] = [63, 64, 15, 16, 127, 128, 31, 32];

/// At most `at_most` of the numbers 0 to n - 1, ascending: both ends, the edges of tiles, then any.
pub(super) fn places(n: usize, at_most: usize, seed: u64) -> Vec<usize> {
    if n <= at_most {
        return (0..n).collect();
    }
    let last_tile = (n - 1) / 64 * 64;
    let middle = n / 2; // where a grid that is folded in two goes on
    let ends = [0, n - 1, middle, middle + 1, last_tile, last_tile.saturating_sub(1)];
    let random = (0..4 * at_most as u64).map(|i| fill::hash(seed, i) as usize % n);
    let mut places = Vec::with_capacity(at_most);
    for place in ends.into_iter().chain(EDGES).chain(random).chain(0..n) {
        if places.len() < at_most && place < n && !places.contains(&place) {
            places.push(place);
        }
    }
    places.sort_unstable();
    places
}

#[test]
fn places_are_in_range_ascending_and_as_many_as_asked_for() {
    for (n, at_most) in [(1, 4), (64, 64), (65, 64), (130, 16), (151_936, 64), (3, 2)] {
        let places = places(n, at_most, 1);
        assert_eq!(places.len(), n.min(at_most), "{n} {at_most}");
        assert!(places.windows(2).all(|pair| pair[0] < pair[1]), "{places:?}");
        assert!(places[0] == 0 && places.contains(&(n - 1)), "{places:?}");
    }
}
