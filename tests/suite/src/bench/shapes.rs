//! The shapes of Qwen2 models.

use qwgpu_runtime::{Elem, Gpu};

/// What decides the shapes of a model's kernels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) name: &'static str,
    pub(super) d_model: usize,
    pub(super) n_heads: usize,
    pub(super) n_kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) d_ff: usize,
    pub(super) vocab: usize,
}

const fn shape(name: &'static str, d_model: usize, heads: [usize; 3], d_ff: usize, vocab: usize) -> Shape {
    let [n_heads, n_kv_heads, head_dim] = heads;
    Shape {
        name,
        d_model,
        n_heads,
        n_kv_heads,
        head_dim,
        d_ff,
        vocab,
    }
}

pub(super) const B0_5: Shape = shape("0.5B", 896, [14, 2, 64], 4864, 151_936);
pub(super) const B7: Shape = shape("7B", 3584, [28, 4, 128], 18_944, 152_064);
pub(super) const B72: Shape = shape("72B", 8192, [64, 8, 128], 29_568, 152_064);

/// A weight matrix of a model: what it is called, its rows and its columns.
pub(super) type Weight = (&'static str, usize, usize);

impl Shape {
    /// Rows of q, k and v together.
    pub(super) const fn qkv(&self) -> usize {
        (self.n_heads + 2 * self.n_kv_heads) * self.head_dim
    }

    /// The matrices of a layer and the head's.
    pub(super) const fn weights(&self) -> [Weight; 5] {
        let d = self.d_model;
        [
            ("qkv", self.qkv(), d),
            ("o", d, self.n_heads * self.head_dim),
            ("gate_up", 2 * self.d_ff, d),
            ("down", d, self.d_ff),
            ("head", self.vocab, d),
        ]
    }
}

/// What decides the shapes of the kernels for a mixture of experts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Experts {
    pub(super) name: &'static str,
    pub(super) d_model: usize,
    /// Inner width of one expert, and of one slice of the shared one.
    pub(super) d_ff: usize,
    pub(super) n_experts: usize,
    /// Experts that a token chooses.
    pub(super) k: usize,
    /// Slices of the shared one.
    pub(super) n_shared: usize,
}

impl Experts {
    pub(super) const fn n_stack(&self) -> usize {
        self.n_experts + self.n_shared
    }

    pub(super) const fn n_slots(&self) -> usize {
        self.k + self.n_shared
    }
}

const A14B: Experts = Experts {
    name: "57B-A14B",
    d_model: 3584,
    d_ff: 2560,
    n_experts: 64,
    k: 8,
    n_shared: 8,
};

/// The model with experts to measure, or what a CPU driver gets through of it.
pub(super) fn experts(gpu: &Gpu) -> Experts {
    if gpu.caps().cpu {
        return Experts {
            d_model: 896,
            d_ff: 128,
            n_experts: 16,
            k: 2,
            n_shared: 2,
            ..A14B
        };
    }
    A14B
}

/// The models to measure; a CPU driver would take minutes over the larger ones.
pub(super) fn models(gpu: &Gpu) -> Vec<Shape> {
    if gpu.caps().cpu { vec![B0_5] } else { vec![B0_5, B7, B72] }
}

/// Rows of a weight matrix: all of them, or what a CPU driver gets through.
pub(super) fn cut(gpu: &Gpu, rows: usize) -> usize {
    if gpu.caps().cpu { rows.min(1024) } else { rows }
}

/// Tokens of decode, and of a chunk of a prompt.
pub(super) fn token_counts(gpu: &Gpu) -> [usize; 2] {
    [1, if gpu.caps().cpu { 64 } else { 512 }]
}

/// How the KV cache is stored on this adapter.
pub(super) fn kv(gpu: &Gpu) -> Elem {
    if gpu.caps().f16 { Elem::F16 } else { Elem::F32 }
}
