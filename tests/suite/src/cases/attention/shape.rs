//! What distinguishes one case from another.

use std::fmt;

use qwgpu_runtime::{
    Elem,
    kernels::{attention_decode_coop, attention_prefill_coop},
};

use crate::{Axis, Case};

/// What is compiled even where compiling takes seconds: cache type, head size, group size; and products up to which a case is quick.
const QUICK_DECODE: [(Elem, usize, usize); 5] = [
    (Elem::F32, 64, 1),
    (Elem::F32, 64, 7),
    (Elem::F32, 64, 16), // more heads than a subgroup has lanes
    (Elem::F32, 128, 8),
    (Elem::F16, 64, 2),
];
const QUICK_PREFILL: [(Elem, usize, usize); 2] = [(Elem::F32, 64, 7), (Elem::F16, 128, 8)];
const QUICK_PRODUCTS: usize = 12 << 20;

/// Rows of one sequence in the batch: positions `first .. first + n`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    pub(super) slot: usize,
    pub(super) first: usize,
    pub(super) n: usize,
}

/// What the values look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Plain fills.
    Plain,
    /// Scores that rise over the context by 8, so that the maximum rises to the end and every tile rescales what was before.
    Rising,
    /// Scores that fall by 8, so that the first tile has the maximum.
    Falling,
    /// The same key everywhere: a flat softmax of scores that are not zero.
    SameKeys,
    /// Scores below zero throughout.
    Below,
    /// Every other query has an element of 3e5: the largest score takes all.
    OutlierQueries,
    /// One key in 61 has a large element.
    OutlierKeys,
    /// One value in 61 has a large element.
    OutlierValues,
    /// Queries below the smallest normal f32.
    TinyQueries,
    /// Values below the smallest normal f32.
    TinyValues,
}

#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) kv: Elem,
    pub(super) head_dim: usize,
    pub(super) group: usize,
    pub(super) n_kv_heads: usize,
    /// `None`: the tiled kernel.
    pub(super) n_splits: Option<usize>,
    pub(super) window: Option<usize>,
    pub(super) batch: Vec<Stretch>,
    pub(super) look: Look,
    /// Whether the kernel is the one for matrix units.
    pub(super) coop: bool,
    /// Whether it is the one for a short context, which has no splits.
    pub(super) short: bool,
    /// Queries are multiplied by this: 1 keeps the softmax flat, 40 makes it choose.
    pub(super) sharpness: f32,
}

impl Shape {
    /// Rows `(slot, first position, rows)` for a kernel `(cache type, head size, group size)`.
    pub(super) fn new(kernel: (Elem, usize, usize), n_splits: Option<usize>, batch: &[(usize, usize, usize)]) -> Self {
        let batch = batch.iter().map(|&(slot, first, n)| Stretch { slot, first, n }).collect();
        Self {
            kv: kernel.0,
            head_dim: kernel.1,
            group: kernel.2,
            n_kv_heads: 2,
            n_splits,
            window: None,
            batch,
            look: Look::Plain,
            coop: false,
            short: false,
            sharpness: 4.0,
        }
    }

    pub(super) fn windowed(self, window: usize) -> Self {
        Self {
            window: Some(window),
            ..self
        }
    }

    pub(super) fn looking(self, look: Look, sharpness: f32) -> Self {
        Self { look, sharpness, ..self }
    }

    pub(super) fn with_kv_heads(self, n_kv_heads: usize) -> Self {
        Self { n_kv_heads, ..self }
    }

    /// The same on matrix units, which take an f16 cache alone.
    pub(super) fn on_matrix_units(&self) -> Option<Self> {
        (self.kv == Elem::F16).then(|| Self {
            coop: true,
            ..self.clone()
        })
    }

    /// The same for the kernel that has no splits, whatever the context.
    pub(super) fn in_one(&self) -> Option<Self> {
        self.n_splits.map(|_| Self {
            short: true,
            n_splits: Some(1),
            ..self.clone()
        })
    }

    pub(super) const fn n_heads(&self) -> usize {
        self.n_kv_heads * self.group
    }

    pub(super) fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    /// The first position that a row at `pos` sees.
    pub(super) fn first_seen(&self, pos: usize) -> usize {
        self.window.map_or(0, |window| (pos + 1).saturating_sub(window))
    }

    /// Products of queries and keys.
    pub(super) fn products(&self) -> usize {
        let positions = self.batch.iter().flat_map(|s| s.first..s.first + s.n);
        let keys: usize = positions.map(|pos| pos + 1 - self.first_seen(pos)).sum();
        keys * self.n_heads() * self.head_dim
    }

    pub(super) fn case(self) -> Case {
        let (stem, variants) = match self.n_splits {
            Some(_) if self.short => ("attention_short", &QUICK_DECODE[..]),
            Some(_) if self.coop => ("attention_decode_coop", &QUICK_DECODE[..]),
            Some(_) => ("attention_decode", &QUICK_DECODE[..]),
            None if self.coop => ("attention_prefill_coop", &QUICK_PREFILL[..]),
            None => ("attention_prefill", &QUICK_PREFILL[..]),
        };
        let variant = variants.contains(&(self.kv, self.head_dim, self.group));
        let quick = variant && self.products() <= QUICK_PRODUCTS;
        let axes: &[Axis] = if self.short { &[Axis::Subgroup] } else { &[] };
        let (needs_f16, coop, is_split) = (self.kv == Elem::F16, self.coop, self.n_splits.is_some());
        let case = Case::new(stem, self.to_string(), move |gpu| super::check(gpu, &self))
            .over(axes)
            .with_f16(needs_f16)
            .quick(quick);
        match (coop, is_split) {
            (true, true) => case.with_coop(|caps| attention_decode_coop::subgroup(caps).is_some()),
            (true, false) => case.with_coop(|caps| attention_prefill_coop::subgroup(caps).is_some()),
            (false, _) => case,
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.n_splits {
            Some(n) => write!(f, "{n} splits ")?,
            None => write!(f, "tiled ")?,
        }
        let (kv, n, group, head_dim) = (self.kv, self.n_kv_heads, self.group, self.head_dim);
        write!(f, "{kv:?} {n} x {group} heads of {head_dim}, rows")?;
        for s in &self.batch {
            write!(f, " {}:{}+{}", s.slot, s.first, s.n)?;
        }
        if let Some(window) = self.window {
            write!(f, ", window {window}")?;
        }
        write!(f, ", {:?} x{}", self.look, self.sharpness)
    }
}
