//! The experts of each of a few tokens and their weights, in one dispatch; [`super::router::Router`] chooses between it and the kernel for
//! many.
//!
//! Shapes as there. What passes between the workgroups of a token lies in a buffer of this kernel, all zeros between dispatches.

use qwgpu_shaders::Variant;

use super::{
    Handle, reduce,
    router::{MAX_EXPERTS, MAX_FEW, Routing},
};
use crate::{Elem, Gpu, Pass, Result, Tensor, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Write,
    Access::Write,
    Access::Write,
    Access::Write,
    Access::Write,
];

/// The compiled kernel, and where its workgroups hand in logits.
#[derive(Debug)]
pub(crate) struct RouterDecode {
    pipeline: Handle,
    /// u32 `[MAX_FEW, MAX_EXPERTS + 2]`
    handed_in: Tensor,
}

impl RouterDecode {
    /// Compiles it.
    pub(crate) fn new(gpu: &Gpu) -> Result<Self> {
        let reduce = reduce(gpu.caps(), 256);
        Ok(Self {
            pipeline: gpu.pipeline(Variant::RouterDecode { reduce })?,
            handed_in: Tensor::new(gpu, "logits handed in", MAX_FEW, MAX_EXPERTS + 2, Elem::U32)?,
        })
    }

    #[track_caller]
    pub(crate) fn dispatch(&self, pass: &mut Pass<'_>, r: &Routing<'_>) {
        let n_tokens = r.chosen.rows();
        assert!(n_tokens <= MAX_FEW, "router_decode: {n_tokens} tokens, {MAX_FEW} at most");
        let grid = [(r.n_experts() + 1) as u32, n_tokens as u32, 1];
        pass.dispatch(&self.pipeline, &r.buffers(&[&self.handed_in.buffer]), &r.params(), grid);
    }
}
