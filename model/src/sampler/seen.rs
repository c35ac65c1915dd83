//! The ids that have occurred in prompt and output, for the repetition penalty.
//!
//! Kept both as bits, to add an id in constant time, and as a list, because the list is what the penalty loops over. On the GPU it is
//! bits alone.

/// A set of token ids below a fixed vocabulary size.
#[derive(Clone, Debug)]
pub struct SeenSet {
    /// Bit `id % 64` of word `id / 64`.
    bits: Vec<u64>,
    ids: Vec<u32>,
    vocab_size: usize,
}

impl SeenSet {
    /// An empty set for ids below `vocab_size`.
    #[must_use]
    pub fn new(vocab_size: usize) -> Self {
        Self {
            bits: vec![0; vocab_size.div_ceil(64)],
            ids: Vec::new(),
            vocab_size,
        }
    }

    /// Adds an id and tells whether it is new. Ids outside the vocabulary have no logit to penalise and are ignored.
    pub fn insert(&mut self, id: u32) -> bool {
        if id as usize >= self.vocab_size || self.contains(id) {
            return false;
        }
        self.bits[id as usize / 64] |= 1 << (id % 64);
        self.ids.push(id);
        true
    }

    /// Whether the id is in the set.
    #[must_use]
    pub fn contains(&self, id: u32) -> bool {
        self.bits.get(id as usize / 64).is_some_and(|word| word >> (id % 64) & 1 == 1)
    }

    /// The ids, each once, in the order of their first occurrence.
    #[must_use]
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Forgets all ids, in time proportional to their number.
    pub fn clear(&mut self) {
        for id in self.ids.drain(..) {
            self.bits[id as usize / 64] = 0;
        }
    }

    /// Makes this the set of exactly these ids, as when a session goes back to a common prefix.
    pub fn rebuild(&mut self, ids: &[u32]) {
        self.clear();
        self.extend(ids.iter().copied());
    }
}

impl Extend<u32> for SeenSet {
    fn extend<T: IntoIterator<Item = u32>>(&mut self, ids: T) {
        for id in ids {
            self.insert(id);
        }
    }
}
