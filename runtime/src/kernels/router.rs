//! The experts of each token and their weights, in one dispatch.
//!
//! `n = x / sqrt(mean(x^2) + eps) * norm`, logits = weights n, `p = softmax` of all logits but the last, which is that of the shared
//! expert's gate. A token's experts are the k with the largest logits, in that order; ties go to the lower id, NaN stands last. Its
//! factors are their p, divided by their sum where the model normalises, and the sigmoid of the last logit behind them. Where a logit of
//! an expert is NaN or +inf, factors are NaN, though the ids are still the first k in order.
//!
//! Shapes: weights f32 `[n_experts + 1, d_model]`, whole; x `[>= n_tokens, d_model]`, norm `[1, d_model]`, logits
//! `[n_tokens, n_experts + 1]`, chosen u32 `[n_tokens, k]`, factors `[n_tokens, k + 1]`, usage u32 `[n_layers, n_experts]`. At most
//! [`MAX_EXPERTS`] experts, and k at most n_experts.
//!
//! Few tokens go to `router_decode`, in which every row of the matrix has a workgroup; with more of them eight share each row
//! that is read.

use qwgpu_shaders::Variant;

use super::{Handle, rms_norm, router_decode::RouterDecode, topk::key};
use crate::{DType, Elem, Gpu, Matrix, Pass, Result, Tensor, buffer::Buffer, pipeline::Access};

/// The largest number of experts to choose from.
pub const MAX_EXPERTS: usize = qwgpu_shaders::MAX_EXPERTS as usize;

/// Tokens up to which each row of the matrix has a workgroup for each of them.
pub const MAX_FEW: usize = 16;

pub(crate) const BINDINGS: &[Access] = &[
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Write,
    Access::Write,
    Access::Write,
    Access::Write,
];

params! { vecs: u32, n_tokens: u32, n_experts: u32, k: u32, eps: f32, inv_d: f32, normalise: u32, usage_at: u32 }

/// Tokens that a workgroup has.
const TOKENS: usize = 8;

/// Both kernels, compiled.
#[derive(Debug)]
pub struct Router {
    pipeline: Handle,
    decode: RouterDecode,
}

/// One choice for some tokens: the operands of a dispatch.
#[derive(Clone, Copy, Debug)]
pub struct Routing<'a> {
    /// f32 `[n_experts + 1, d_model]`: a row for each expert, and the shared expert's gate last.
    pub weights: &'a Matrix,
    /// The residual stream, `[>= n_tokens, d_model]`.
    pub x: &'a Tensor,
    /// Weights of the norm before the experts, `[1, d_model]`.
    pub norm: &'a Tensor,
    /// What the norm adds to the mean of the squares.
    pub eps: f32,
    /// Whether the factors of the chosen experts are divided by their sum.
    pub normalise: bool,
    /// Receives the logits, `[n_tokens, n_experts + 1]`.
    pub logits: &'a Tensor,
    /// Receives the ids, u32 `[n_tokens, k]`: says how many tokens there are, and k.
    pub chosen: &'a Tensor,
    /// Receives the factors, `[n_tokens, k + 1]`, the shared expert's last.
    pub factors: &'a Tensor,
    /// Counters, u32 `[n_layers, n_experts]`: one is added for each token that takes an expert.
    pub usage: &'a Tensor,
    /// The row of `usage` that counts.
    pub layer: usize,
}

impl Routing<'_> {
    pub(super) const fn n_experts(&self) -> usize {
        self.usage.cols()
    }

    pub(super) fn params(&self) -> Params {
        let d_model = self.x.cols();
        Params {
            vecs: (d_model / 4) as u32,
            n_tokens: self.chosen.rows() as u32,
            n_experts: self.n_experts() as u32,
            k: self.chosen.cols() as u32,
            eps: self.eps,
            inv_d: 1.0 / d_model as f32,
            normalise: u32::from(self.normalise),
            usage_at: (self.layer * self.n_experts()) as u32,
        }
    }

    /// What both kernels bind, in order; `more` behind it.
    #[track_caller]
    pub(super) fn buffers<'b>(&'b self, more: &[&'b Buffer]) -> Vec<&'b Buffer> {
        let [part] = self.weights.parts.as_slice() else {
            panic!("router: a matrix of {} parts", self.weights.parts.len())
        };
        let tensors = [self.x, self.norm, self.logits, self.chosen, self.factors, self.usage];
        let mut others: Vec<&Buffer> = tensors.iter().map(|tensor| &*tensor.buffer).collect();
        others.extend(more);
        part.bind(&others)
    }

    #[track_caller]
    fn check(&self) {
        let (n_experts, d_model) = (self.n_experts(), self.x.cols());
        let (n_tokens, k) = (self.chosen.rows(), self.chosen.cols());
        assert!(
            (1..=MAX_EXPERTS).contains(&n_experts) && (1..=n_experts).contains(&k),
            "router: {k} of {n_experts} experts, {MAX_EXPERTS} at most"
        );
        let of_weights = (self.weights.rows(), self.weights.cols(), self.weights.dtype());
        assert_eq!(of_weights, (n_experts + 1, d_model, DType::F32), "router: the matrix");
        assert!(
            self.x.rows() >= n_tokens && self.norm.cols() == d_model,
            "router: shape of x or of the norm"
        );
        let shape = |tensor: &Tensor| (tensor.rows(), tensor.cols(), tensor.elem());
        assert_eq!(shape(self.logits), (n_tokens, n_experts + 1, Elem::F32), "router: logits");
        assert_eq!(shape(self.factors), (n_tokens, k + 1, Elem::F32), "router: factors");
        assert_eq!((self.chosen.elem(), self.usage.elem()), (Elem::U32, Elem::U32), "router: ids");
        assert!(
            self.layer < self.usage.rows(),
            "router: layer {} of {}",
            self.layer,
            self.usage.rows()
        );
    }
}

impl Router {
    /// Compiles them.
    ///
    /// # Errors
    /// When a shader does not compile.
    pub fn new(gpu: &Gpu) -> Result<Self> {
        Ok(Self {
            pipeline: gpu.pipeline(Variant::Router)?,
            decode: RouterDecode::new(gpu)?,
        })
    }

    /// Chooses for the first `chosen.rows()` rows of x.
    ///
    /// # Panics
    /// When shapes do not fit, the matrix is split or not f32, or there are more than [`MAX_EXPERTS`].
    #[track_caller]
    pub fn dispatch(&self, pass: &mut Pass<'_>, r: &Routing<'_>) {
        if r.chosen.rows() <= MAX_FEW {
            self.dispatch_decode(pass, r);
        } else {
            self.dispatch_many(pass, r);
        }
    }

    /// The kernel for few tokens, a workgroup a logit; for tests.
    ///
    /// # Panics
    /// As [`Router::dispatch`], and for more than [`MAX_FEW`] tokens.
    #[track_caller]
    pub fn dispatch_decode(&self, pass: &mut Pass<'_>, r: &Routing<'_>) {
        r.check();
        self.decode.dispatch(pass, r);
    }

    /// The kernel for many tokens, however many there are; for tests.
    ///
    /// # Panics
    /// As [`Router::dispatch`].
    #[track_caller]
    pub fn dispatch_many(&self, pass: &mut Pass<'_>, r: &Routing<'_>) {
        r.check();
        let grid = [r.chosen.rows().div_ceil(TOKENS) as u32, 1, 1];
        pass.dispatch(&self.pipeline, &r.buffers(&[]), &r.params(), grid);
    }
}

/// The choice of one token.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Ids of its k experts, the largest logit first.
    pub experts: Vec<u32>,
    /// Their factors, and the shared expert's behind them.
    pub factors: Vec<f64>,
}

/// The definition of the logits of one token, given all rows of the matrix.
#[must_use]
pub fn logits(weights: &[f32], x: &[f32], norm: &[f32], eps: f32) -> Vec<f64> {
    let normed = rms_norm::reference(x, norm, eps);
    let product = |row: &[f32]| row.iter().zip(&normed).map(|(&w, &n)| f64::from(w) * n).sum();
    weights.chunks_exact(x.len()).map(product).collect()
}

/// The definition of the choice, given the logits of one token: those of the experts, and the gate's.
///
/// # Panics
/// Without any logit.
#[must_use]
pub fn reference(logits: &[f32], k: usize, normalise: bool) -> Choice {
    let (gate, of_experts) = logits.split_last().expect("the gate has a logit");
    let mut experts: Vec<u32> = (0..of_experts.len() as u32).collect();
    experts.sort_by_key(|&expert| std::cmp::Reverse(key(of_experts[expert as usize]))); // stable: ties stay in order
    experts.truncate(k);
    let largest = of_experts.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |logit: f32| (f64::from(logit) - f64::from(largest)).exp();
    let weight_of = |&expert: &u32| weight(of_experts[expert as usize]);
    let sum: f64 = if normalise {
        experts.iter().map(weight_of).sum()
    } else {
        of_experts.iter().map(|&logit| weight(logit)).sum()
    };
    let mut factors: Vec<f64> = experts.iter().map(|expert| weight_of(expert) / sum).collect();
    factors.push(1.0 / (1.0 + (-f64::from(*gate)).exp()));
    Choice { experts, factors }
}
