//! The rows of each expert of a stack, for [`super::matmul_experts`]: the pairs (token, slot), a stable sort of them by expert, and the
//! place where each expert's begin.
//!
//! Shapes: chosen u32 `[n_tokens, k]`; pairs u32, `n_tokens * n_slots` of them; offsets u32 `[1, n_stack + 1]`. A token's first k slots
//! are the experts that it has chosen, all different; slot `k + s` is slice s of the shared expert, which stands in the stack as expert
//! `n_experts + s` and which every token takes. So `n_slots = k + n_shared` and `n_stack = n_experts + n_shared`.

use qwgpu_shaders::Variant;

use super::Handle;
use crate::{Elem, Gpu, Pass, Result, Tensor, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[Access::Read, Access::Write, Access::Write];

params! { n_tokens: u32, k: u32, n_experts: u32, n_shared: u32 }

/// Which rows each expert of a stack takes.
#[derive(Clone, Debug)]
pub struct Groups {
    /// `token * n_slots + slot`, expert by expert, each expert's in order of token: u32 `[max_tokens, n_slots]`, used as one list of
    /// which `n_tokens * n_slots` entries count.
    pub pairs: Tensor,
    /// Where each expert's pairs begin, and behind the last expert's where they end: u32 `[1, n_stack + 1]`.
    pub offsets: Tensor,
}

impl Groups {
    /// Bytes that [`Groups::new`] will take.
    #[must_use]
    pub const fn bytes(max_tokens: usize, n_slots: usize, n_stack: usize) -> u64 {
        (4 * (max_tokens * n_slots + n_stack + 1)) as u64
    }

    /// Room for up to `max_tokens` tokens of `n_slots` slots each, over a stack of `n_stack` experts and slices of the shared one.
    ///
    /// # Errors
    /// When the adapter has no room.
    pub fn new(gpu: &Gpu, max_tokens: usize, n_slots: usize, n_stack: usize) -> Result<Self> {
        Ok(Self {
            pairs: Tensor::new(gpu, "pairs by expert", max_tokens, n_slots, Elem::U32)?,
            offsets: Tensor::new(gpu, "offsets of experts", 1, n_stack + 1, Elem::U32)?,
        })
    }

    /// Slots of a token.
    #[must_use]
    pub const fn n_slots(&self) -> usize {
        self.pairs.cols()
    }

    /// Experts and slices of the shared one.
    #[must_use]
    pub const fn n_stack(&self) -> usize {
        self.offsets.cols() - 1
    }
}

/// The compiled kernel.
#[derive(Debug)]
pub struct GroupExperts {
    pipeline: Handle,
}

impl GroupExperts {
    /// Compiles it.
    ///
    /// # Errors
    /// When the shader does not compile.
    pub fn new(gpu: &Gpu) -> Result<Self> {
        Ok(Self {
            pipeline: gpu.pipeline(Variant::GroupExperts)?,
        })
    }

    /// Fills `groups` for the tokens of `chosen`, whose ids are below `n_experts`. An id that is not is in no expert's list.
    ///
    /// # Panics
    /// When shapes do not fit.
    #[track_caller]
    pub fn dispatch(&self, pass: &mut Pass<'_>, chosen: &Tensor, n_experts: usize, n_shared: usize, groups: &Groups) {
        let (n_tokens, k) = (chosen.rows(), chosen.cols());
        assert!(
            groups.n_slots() == k + n_shared && groups.n_stack() == n_experts + n_shared,
            "group_experts: {k} of {n_experts} experts and {n_shared} slices in groups of {} slots and {} experts",
            groups.n_slots(),
            groups.n_stack()
        );
        assert!(
            n_tokens <= groups.pairs.rows(),
            "group_experts: {n_tokens} tokens, room for {}",
            groups.pairs.rows()
        );
        let params = Params {
            n_tokens: n_tokens as u32,
            k: k as u32,
            n_experts: n_experts as u32,
            n_shared: n_shared as u32,
        };
        let buffers = [&*chosen.buffer, &groups.pairs.buffer, &groups.offsets.buffer];
        pass.dispatch(&self.pipeline, &buffers, &params, [groups.n_stack() as u32, 1, 1]);
    }
}

/// The definition: pairs and offsets of tokens that have chosen `k` experts each.
#[must_use]
pub fn reference(chosen: &[u32], k: usize, n_experts: usize, n_shared: usize) -> (Vec<u32>, Vec<u32>) {
    let n_slots = k + n_shared;
    let (mut pairs, mut offsets) = (Vec::new(), vec![0]);
    for expert in 0..n_experts + n_shared {
        for (t, ids) in chosen.chunks_exact(k).enumerate() {
            let takes = |slot: usize| ids.get(slot).map_or(n_experts + slot - k, |&id| id as usize) == expert;
            pairs.extend((0..n_slots).filter(|&slot| takes(slot)).map(|slot| (t * n_slots + slot) as u32));
        }
        offsets.push(pairs.len() as u32);
    }
    (pairs, offsets)
}

#[test]
fn the_reference_sorts_pairs_by_expert() {
    // two tokens choose two of three experts, and take one shared slice: slots 0 and 1 are chosen, slot 2 is shared
    let (pairs, offsets) = reference(&[2, 0, 2, 1], 2, 3, 1);
    assert_eq!(pairs, [1, 4, 0, 3, 2, 5]);
    assert_eq!(offsets, [0, 1, 2, 4, 6]);
}
