//! Which experts tokens choose: even, ragged, and as uneven as it can get.

use std::fmt;

use crate::fill;

/// What the choices look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Routing {
    /// Any experts, in any order.
    Spread,
    /// One after the other, so that all have the same number of tokens, or nearly.
    Turns,
    /// All tokens choose the last k, the highest id first; no token chooses another.
    Same,
    /// All tokens choose the one in the middle, each in another slot, and any others beside it.
    Hot,
}

impl fmt::Display for Routing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Routing {
    pub(crate) const ALL: [Self; 4] = [Self::Spread, Self::Turns, Self::Same, Self::Hot];

    /// Ids `[n_tokens, k]`, different ones in each row.
    pub(crate) fn chosen(self, n_tokens: usize, k: usize, n_experts: usize) -> Vec<u32> {
        assert!(k <= n_experts, "{k} of {n_experts} experts");
        (0..n_tokens).flat_map(|t| self.row(t, k, n_experts)).collect()
    }

    fn row(self, t: usize, k: usize, n_experts: usize) -> Vec<u32> {
        let mut ids: Vec<u32> = match self {
            Self::Spread | Self::Hot => fill::permutation(70 + t as u64, n_experts),
            Self::Turns => (0..k).map(|slot| ((t * k + slot) % n_experts) as u32).collect(),
            Self::Same => (0..n_experts as u32).rev().collect(),
        };
        if self == Self::Hot {
            let hot = ids.iter().position(|&id| id as usize == n_experts / 2);
            ids.swap(t % k, hot.expect("a permutation has every expert"));
        }
        ids.truncate(k);
        ids
    }
}

#[test]
fn tokens_choose_different_experts() {
    for routing in Routing::ALL {
        for (n_tokens, k, n_experts) in [(1, 1, 1), (9, 3, 7), (40, 8, 64), (5, 6, 6)] {
            let chosen = routing.chosen(n_tokens, k, n_experts);
            assert_eq!(chosen.len(), n_tokens * k);
            for row in chosen.chunks_exact(k) {
                let different: std::collections::HashSet<_> = row.iter().collect();
                assert!(
                    different.len() == k && row.iter().all(|&id| (id as usize) < n_experts),
                    "{routing}: {row:?}"
                );
                assert!(
                    routing != Routing::Hot || row.contains(&(n_experts as u32 / 2)),
                    "{routing}: {row:?}"
                );
            }
        }
    }
}
