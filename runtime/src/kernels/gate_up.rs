//! The first half of one token's feed-forward, and the choice between its forms: [`super::norm_gate_up`], or for large quantised matrices
//! [`super::gate_up_bytes`], if the product behind takes bytes; where that does not go, [`super::norm_quantize`] and
//! [`super::gate_up_dot`].

use super::{
    gate_up_bytes::{self, GateUpBytes, Normed},
    gate_up_dot::GateUpDot,
    has_teams,
    norm_gate_up::NormGateUp,
    norm_quantize::NormQuantize,
    quantize::{self, Bytes},
};
use crate::{DType, Gpu, Matrix, Pass, Result, Tensor};

/// Both forms, compiled.
#[derive(Debug)]
pub struct StepGateUp {
    fused: NormGateUp,
    dot: Option<Dot>,
}

/// With integer dot products.
#[derive(Debug)]
struct Dot {
    norm_quantize: NormQuantize,
    gate_up: GateUpDot,
    to_bytes: Option<GateUpBytes>,
}

/// The operands of `out = silu(gate norm(x)) * (up norm(x))`.
#[derive(Clone, Copy, Debug)]
pub struct GateUp<'a> {
    /// `[2 d_ff, d_model]`, gate first, in one part.
    pub weights: &'a Matrix,
    /// The residual stream, `[1, d_model]`.
    pub x: &'a Tensor,
    /// The norm's weights, `[1, d_model]`.
    pub norm: &'a Tensor,
    /// What the norm adds to the mean of the squares.
    pub eps: f32,
    /// Where the normalised x is put for integer dot products.
    pub bytes: &'a Bytes,
    /// Receives the result, `[1, d_ff]`.
    pub out: &'a Tensor,
}

impl StepGateUp {
    /// Compiles what matrices in these weight types may take.
    ///
    /// # Errors
    /// When a shader does not compile.
    pub fn new(gpu: &Gpu, dtypes: &[DType]) -> Result<Self> {
        let pays = dtypes.iter().any(|&dtype| quantize::pays(gpu.caps(), dtype));
        let dot = || -> Result<Dot> {
            Ok(Dot {
                norm_quantize: NormQuantize::new(gpu)?,
                gate_up: GateUpDot::new(gpu, dtypes)?,
                to_bytes: has_teams(gpu.caps())
                    .then(|| GateUpBytes::new(gpu, dtypes, gate_up_bytes::Of::Dense))
                    .transpose()?,
            })
        };
        Ok(Self {
            fused: NormGateUp::new(gpu, dtypes)?,
            dot: pays.then(dot).transpose()?,
        })
    }

    fn dot(&self, weights: &Matrix) -> Option<&Dot> {
        self.dot.as_ref().filter(|_| quantize::is_for_bytes(weights))
    }

    /// Whether products with these weights round their input to bytes.
    #[must_use]
    pub fn takes_bytes(&self, weights: &Matrix) -> bool {
        self.dot(weights).is_some()
    }

    /// Whether the result can come in bytes.
    #[must_use]
    pub fn leaves_bytes(&self, weights: &Matrix) -> bool {
        let narrow = weights.cols() <= GateUpBytes::MOST_COLUMNS;
        narrow && self.dot(weights).is_some_and(|dot| dot.to_bytes.is_some())
    }

    /// Computes the result from the residual stream `x` into `hidden`, in bytes; `out` is left alone.
    ///
    /// # Panics
    /// When shapes do not fit, or [`StepGateUp::leaves_bytes`] says no.
    #[track_caller]
    pub fn dispatch_bytes(&self, pass: &mut Pass<'_>, g: &GateUp<'_>, hidden: &Bytes) {
        let dot = self.dot(g.weights).expect("leaves_bytes says so");
        let to_bytes = dot.to_bytes.as_ref().expect("leaves_bytes says so");
        let x = Normed {
            x: g.x,
            norm: g.norm,
            eps: g.eps,
        };
        to_bytes.dispatch(pass, g.weights, x, hidden);
    }

    /// Computes `out` from the residual stream `x`.
    ///
    /// # Panics
    /// When shapes do not fit, or the matrix is split.
    #[track_caller]
    pub fn dispatch(&self, pass: &mut Pass<'_>, g: &GateUp<'_>) {
        if let Some(dot) = self.dot(g.weights) {
            dot.norm_quantize.dispatch(pass, g.x, g.norm, g.eps, g.bytes);
            dot.gate_up.dispatch(pass, g.weights, g.bytes, g.out);
        } else {
            self.fused.dispatch(pass, g.weights, g.x, g.norm, g.eps, g.out);
        }
    }
}
