//! The kernels of a mixture of experts together, and the choice between their forms.

use super::{
    combine_experts::CombineExperts,
    experts_down::{Down, ExpertsDown},
    experts_down_dot::ExpertsDownDot,
    experts_gate_up::{ExpertsGateUp, GateUp},
    experts_gate_up_dot::ExpertsGateUpDot,
    gate_up_bytes::{self, GateUpBytes},
    group_experts::GroupExperts,
    has_teams,
    matmul_experts::MatmulExperts,
    norm_quantize::NormQuantize,
    quantize::{Bytes, Quantize, pays},
    router::Router,
};
use crate::{DType, Gpu, Matrix, Pass, Result};

/// What a mixture of experts needs beside the other kernels, compiled.
#[derive(Debug)]
pub struct Experts {
    /// Which experts a token goes to.
    pub router: Router,
    /// Pairs of token and expert in order of expert.
    pub group: GroupExperts,
    /// Products of such pairs.
    pub product: MatmulExperts,
    /// The weighted sum of many tokens.
    pub combine: CombineExperts,
    gate_up: ExpertsGateUp,
    down: ExpertsDown,
    dot: Option<Dot>,
}

/// One token's products with integer dot products.
#[derive(Debug)]
struct Dot {
    norm_quantize: NormQuantize,
    gate_up: ExpertsGateUpDot,
    to_bytes: Option<GateUpBytes>,
    quantize: Quantize,
    down: ExpertsDownDot,
}

impl Dot {
    /// `None` where they pay for none of the weight types.
    fn new(gpu: &Gpu, dtypes: &[DType]) -> Result<Option<Self>> {
        if !dtypes.iter().any(|&dtype| pays(gpu.caps(), dtype)) {
            return Ok(None);
        }
        Ok(Some(Self {
            norm_quantize: NormQuantize::new(gpu)?,
            gate_up: ExpertsGateUpDot::new(gpu, dtypes)?,
            to_bytes: has_teams(gpu.caps())
                .then(|| GateUpBytes::new(gpu, dtypes, gate_up_bytes::Of::Experts))
                .transpose()?,
            quantize: Quantize::new(gpu)?,
            down: ExpertsDownDot::new(gpu, dtypes)?,
        }))
    }
}

impl Experts {
    /// Compiles them for experts in these weight types.
    ///
    /// # Errors
    /// When a shader does not compile.
    pub fn new(gpu: &Gpu, dtypes: &[DType]) -> Result<Self> {
        Ok(Self {
            router: Router::new(gpu)?,
            group: GroupExperts::new(gpu)?,
            product: MatmulExperts::new(gpu, dtypes)?,
            combine: CombineExperts::new(gpu)?,
            gate_up: ExpertsGateUp::new(gpu, dtypes)?,
            down: ExpertsDown::new(gpu, dtypes)?,
            dot: Dot::new(gpu, dtypes)?,
        })
    }

    /// Whether one token's products with such experts round their inputs to bytes.
    #[must_use]
    pub fn takes_bytes(&self, experts: &Matrix) -> bool {
        self.dot.is_some() && experts.dtype().is_quantised()
    }

    /// Whether the hidden activations of one token can come in bytes.
    #[must_use]
    pub fn leaves_bytes(&self, experts: &Matrix) -> bool {
        let to_bytes = self.dot.as_ref().and_then(|dot| dot.to_bytes.as_ref());
        to_bytes.is_some() && experts.dtype().is_quantised() && experts.cols() <= GateUpBytes::MOST_COLUMNS
    }

    /// One token's norm, gate, up and SwiGLU into `hidden`, in bytes; `g.out` is left alone.
    ///
    /// # Panics
    /// When shapes do not fit, or [`Experts::leaves_bytes`] says no.
    #[track_caller]
    pub fn gate_up_bytes(&self, pass: &mut Pass<'_>, g: &GateUp<'_>, hidden: &Bytes) {
        let dot = self.dot.as_ref().expect("leaves_bytes says so");
        let to_bytes = dot.to_bytes.as_ref().expect("leaves_bytes says so");
        to_bytes.dispatch_experts(pass, g, hidden);
    }

    /// One token's norm, gate, up and SwiGLU; `bytes` is where integer dot products put their input.
    ///
    /// # Panics
    /// When shapes do not fit.
    #[track_caller]
    pub fn gate_up(&self, pass: &mut Pass<'_>, g: &GateUp<'_>, bytes: &Bytes) {
        match &self.dot {
            Some(dot) if g.experts.dtype().is_quantised() => {
                dot.norm_quantize.dispatch(pass, g.x, g.norm, g.eps, bytes);
                dot.gate_up.dispatch(pass, g, bytes);
            }
            _ => self.gate_up.dispatch(pass, g),
        }
    }

    /// One token's down and weighted sum; `bytes` as in [`Experts::gate_up`], or with the hidden activations in them already.
    ///
    /// # Panics
    /// When shapes do not fit.
    #[track_caller]
    pub fn down(&self, pass: &mut Pass<'_>, d: &Down<'_>, bytes: &Bytes, in_bytes: bool) {
        match &self.dot {
            Some(dot) if d.experts.dtype().is_quantised() => {
                if !in_bytes {
                    dot.quantize.dispatch_rows(pass, d.hidden, bytes);
                }
                dot.down.dispatch(pass, d, bytes);
            }
            _ => self.down.dispatch(pass, d),
        }
    }
}
