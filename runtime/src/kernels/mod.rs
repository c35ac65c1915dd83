//! One module per kernel, same stem as its `.wgsl`: formula, shapes, `Params`, bindings, dispatch, and a plain-loop `reference`.
//!
//! References accumulate in f64 and take host slices; they are what the test suite and `qwgpu bench --check` compare with, and the
//! executable specification of each kernel.

use std::sync::Arc;

use qwgpu_shaders::{Kv, Reduce, SCALES_BINDING, Variant, Weights};

use crate::{Caps, DType, Elem, Gpu, Result, pipeline::Access, pipeline::Pipeline};

/// Defines a kernel's `Params`: plain u32 and f32 fields, so that `repr(C)` and WGSL agree, and their names for the contract test.
macro_rules! params {
    ($($field:ident: $ty:ident),* $(,)?) => {
        #[repr(C)]
        #[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
        pub(crate) struct Params { $($field: $ty),* }
        impl Params {
            /// Name and type of each field, in order; the contract test compares them with the WGSL.
            #[cfg(test)]
            pub(crate) const FIELDS: &'static [(&'static str, &'static str)] = &[$((stringify!($field), stringify!($ty))),*];
        }
    };
}

pub mod argmax;
pub mod attention;
pub mod attention_decode;
pub mod attention_decode_coop;
pub mod attention_merge;
pub mod attention_prefill;
pub mod attention_prefill_coop;
pub mod attention_short;
pub mod combine_experts;
pub mod embed;
pub mod embed_step;
pub mod experts;
pub mod experts_down;
pub mod experts_down_dot;
pub mod experts_gate_up;
pub mod experts_gate_up_dot;
pub mod fill_random;
pub mod gate_up;
pub mod gate_up_bytes;
pub mod gate_up_dot;
pub mod group_experts;
pub mod matmul;
pub mod matmul_coop;
pub mod matmul_experts;
mod matmul_experts_coop;
pub mod matvec;
pub mod matvec_dot;
pub mod norm_gate_up;
pub mod norm_qkv_rope;
pub mod norm_qkv_rope_dot;
pub mod norm_quantize;
pub mod norm_to_f16;
pub mod peak;
pub mod penalty;
pub mod qkv_rope;
pub mod qkv_rope_dot;
pub mod quantize;
pub mod rms_norm;
pub mod rope;
pub mod router;
mod router_decode;
pub mod sample;
pub mod share;
pub mod silu_mul;
pub mod silu_mul_to_f16;
mod slots;
pub mod to_f16;
pub mod topk;

/// Number and use of each binding of a variant, in the order in which its dispatch hands over the buffers.
pub(crate) fn bindings(variant: &Variant) -> Vec<(u32, Access)> {
    let mut bindings: Vec<(u32, Access)> = (0..).zip(own_bindings(variant).iter().copied()).collect();
    if variant.weights().is_some_and(Weights::has_scales) {
        bindings.push((SCALES_BINDING, Access::Read));
    }
    bindings
}

/// What the bindings are used for that the kernel has in every form, numbered from 0.
const fn own_bindings(variant: &Variant) -> &'static [Access] {
    match variant {
        Variant::Embed { .. } => embed::BINDINGS,
        Variant::EmbedStep { .. } => embed_step::BINDINGS,
        Variant::RmsNorm { .. } => rms_norm::BINDINGS,
        Variant::Matvec { .. } => matvec::BINDINGS,
        Variant::NormQkvRope { .. } => norm_qkv_rope::BINDINGS,
        Variant::NormGateUp { .. } => norm_gate_up::BINDINGS,
        Variant::Router => router::BINDINGS,
        Variant::RouterDecode { .. } => router_decode::BINDINGS,
        Variant::ExpertsGateUp { .. } => experts_gate_up::BINDINGS,
        Variant::ExpertsDown { .. } => experts_down::BINDINGS,
        Variant::MatvecDot { .. } => matvec_dot::BINDINGS,
        Variant::NormQuantize { .. } => norm_quantize::BINDINGS,
        Variant::GateUpDot { .. } => gate_up_dot::BINDINGS,
        Variant::QkvRopeDot { .. } => qkv_rope_dot::BINDINGS,
        Variant::NormQkvRopeDot { .. } => norm_qkv_rope_dot::BINDINGS,
        Variant::ExpertsGateUpDot { .. } => experts_gate_up_dot::BINDINGS,
        Variant::ExpertsDownDot { .. } => experts_down_dot::BINDINGS,
        Variant::Quantize => quantize::BINDINGS,
        Variant::Matmul { grouped: false, .. } => matmul::BINDINGS,
        Variant::MatmulCoop { grouped: false, .. } => matmul_coop::BINDINGS,
        Variant::Matmul { grouped: true, .. } => matmul_experts::BINDINGS,
        Variant::MatmulCoop { grouped: true, .. } => matmul_experts_coop::BINDINGS,
        Variant::GroupExperts => group_experts::BINDINGS,
        Variant::CombineExperts => combine_experts::BINDINGS,
        Variant::ToF16 => to_f16::BINDINGS,
        Variant::NormToF16 { .. } => norm_to_f16::BINDINGS,
        Variant::SiluMulToF16 => silu_mul_to_f16::BINDINGS,
        Variant::Rope { .. } => rope::BINDINGS,
        Variant::AttentionPrefill { .. } => attention_prefill::BINDINGS,
        Variant::AttentionPrefillCoop { .. } => attention_prefill_coop::BINDINGS,
        Variant::AttentionDecode { .. } => attention_decode::BINDINGS,
        Variant::AttentionDecodeCoop { .. } => attention_decode_coop::BINDINGS,
        Variant::AttentionShort { .. } => attention_short::BINDINGS,
        Variant::GateUpBytes { .. } => gate_up_bytes::BINDINGS,
        Variant::AttentionMerge { .. } => attention_merge::BINDINGS,
        Variant::SiluMul => silu_mul::BINDINGS,
        Variant::Argmax { .. } => argmax::BINDINGS,
        Variant::Topk => topk::BINDINGS,
        Variant::Sample => sample::BINDINGS,
        Variant::Penalty => penalty::BINDINGS,
        Variant::FillRandom => fill_random::BINDINGS,
        Variant::Probe(probe) => crate::self_test::bindings(probe),
        Variant::Peak(peak) => peak::bindings(*peak),
    }
}

/// How this adapter reads weights of a type.
pub(crate) const fn weights_format(caps: &Caps, dtype: DType) -> Weights {
    match dtype {
        DType::F32 => Weights::F32,
        DType::F16 if caps.f16 => Weights::F16,
        DType::F16 => Weights::F16Packed,
        DType::BF16 => Weights::Bf16,
        DType::Q8 => Weights::Q8,
        DType::Q4 => Weights::Q4,
    }
}

/// How this adapter reduces over a workgroup.
pub(crate) const fn reduce(caps: &Caps, workgroup: u32) -> Reduce {
    Reduce {
        subgroup: caps.subgroup,
        workgroup,
    }
}

/// Lanes of the widest team, one for each four dimensions of head_dim 128, or for each share of a row of bytes.
const WIDEST_TEAM: u32 = 32;

/// Whether an adapter's subgroups hold a team (shaders/shared/team_subgroup.wgsl), and their size is known beforehand.
#[must_use]
pub const fn has_teams(caps: &Caps) -> bool {
    caps.subgroup && caps.subgroup_min == caps.subgroup_max && caps.subgroup_min >= WIDEST_TEAM
}

/// The shader's name for a cache of this element type.
///
/// # Panics
/// For u32.
pub(crate) const fn kv_format(elem: Elem) -> Kv {
    match elem {
        Elem::F32 => Kv::F32,
        Elem::F16 => Kv::F16,
        Elem::U32 => panic!("a KV cache holds floats"),
    }
}

/// One pipeline for each weight type that a model uses.
#[derive(Debug)]
pub(crate) struct PerDType<T> {
    entries: Vec<(DType, T)>,
}

impl<T> PerDType<T> {
    pub(crate) fn new(dtypes: &[DType], make: impl Fn(DType) -> Result<T>) -> Result<Self> {
        Ok(Self {
            entries: dtypes.iter().map(|&dtype| Ok((dtype, make(dtype)?))).collect::<Result<_>>()?,
        })
    }

    #[track_caller]
    pub(crate) fn get(&self, dtype: DType) -> &T {
        let entry = self.entries.iter().find(|(d, _)| *d == dtype);
        &entry.unwrap_or_else(|| panic!("no pipeline was made for {dtype} weights")).1
    }
}

/// Splits `n` workgroups over two dimensions where one does not reach; the kernel leaves where `y * x_count + x >= n`.
pub(crate) fn fold(gpu: &Gpu, n: usize) -> [u32; 3] {
    let max = gpu.caps().max_workgroups as usize;
    let y = n.div_ceil(max).max(1);
    [n.div_ceil(y) as u32, y as u32, 1]
}

/// A shared pipeline handle.
pub(crate) type Handle = Arc<Pipeline>;

/// What a model asks of the kernels: decides which pipelines are compiled at load.
#[derive(Clone, Debug)]
pub struct KernelOptions {
    /// Storage of the layers' matrices.
    pub layers: DType,
    /// Storage of the embedding.
    pub embed: DType,
    /// Storage of what makes the logits.
    pub head: DType,
    /// Elements of a head, 64 or 128.
    pub head_dim: usize,
    /// Query heads to a kv head, 1 to 16.
    pub group_size: usize,
    /// Storage of the KV cache.
    pub kv: Elem,
    /// Whether any layer is a mixture of experts.
    pub experts: bool,
}

/// Every kernel of a model, compiled.
#[derive(Debug)]
pub struct Kernels {
    /// Embedding gather.
    pub embed: embed::Embed,
    /// Embedding of one token, and its place.
    pub embed_step: embed_step::EmbedStep,
    /// RMS norm.
    pub rms_norm: rms_norm::RmsNorm,
    /// Matrix products of any number of rows.
    pub matmul: matmul::Matmul,
    /// Norm, q, k and v, rotation and cache write of one token.
    pub qkv_rope: qkv_rope::StepQkv,
    /// Norm, gate and up, SwiGLU of one token.
    pub gate_up: gate_up::StepGateUp,
    /// Rotary embedding and cache write.
    pub rope: rope::Rope,
    /// Attention of any number of rows.
    pub attention: attention::Attention,
    /// SwiGLU's middle.
    pub silu_mul: silu_mul::SiluMul,
    /// Id of the largest logit.
    pub argmax: argmax::Argmax,
    /// Candidates under top-k.
    pub topk: topk::Topk,
    /// The draw of a token.
    pub sample: sample::Sample,
    /// Repetition penalty.
    pub penalty: penalty::Penalty,
    /// What makes inputs of products on matrix units, where there are some.
    to_operand: Option<ToOperand>,
    /// Those of a mixture of experts.
    pub experts: Option<experts::Experts>,
}

/// Kernels that leave their result in f16, for the product on matrix units that follows.
#[derive(Debug)]
pub struct ToOperand {
    /// RMS norm.
    pub norm: norm_to_f16::NormToF16,
    /// SwiGLU's middle.
    pub silu_mul: silu_mul_to_f16::SiluMulToF16,
}

impl ToOperand {
    /// `None` where products do not go to matrix units.
    fn new(gpu: &Gpu) -> Result<Option<Self>> {
        if matmul_coop::grids(gpu.caps()).is_empty() {
            return Ok(None);
        }
        Ok(Some(Self {
            norm: norm_to_f16::NormToF16::new(gpu)?,
            silu_mul: silu_mul_to_f16::SiluMulToF16::new(gpu)?,
        }))
    }
}

impl Kernels {
    /// Kernels that leave their result in an operand.
    ///
    /// # Panics
    /// Where products do not go to matrix units.
    #[must_use]
    #[track_caller]
    pub const fn to_operand(&self) -> &ToOperand {
        self.to_operand.as_ref().expect("products go to matrix units")
    }

    /// Compiles all pipelines, on several threads, so that a bad shader fails before the first token and nothing is compiled after
    /// load.
    ///
    /// # Errors
    /// When a shader does not compile.
    pub fn new(gpu: &Gpu, options: &KernelOptions) -> Result<Self> {
        gpu.compile_together(|| Self::declare(gpu, options))
    }

    fn declare(gpu: &Gpu, options: &KernelOptions) -> Result<Self> {
        let layers = [options.layers];
        let head = (options.head != options.layers).then_some(options.head);
        let products: Vec<DType> = layers.into_iter().chain(head).collect();
        Ok(Self {
            embed: embed::Embed::new(gpu, &[options.embed])?,
            embed_step: embed_step::EmbedStep::new(gpu, &[options.embed])?,
            rms_norm: rms_norm::RmsNorm::new(gpu)?,
            matmul: matmul::Matmul::new(gpu, &products)?,
            qkv_rope: qkv_rope::StepQkv::new(gpu, &layers, options.kv, options.head_dim)?,
            gate_up: gate_up::StepGateUp::new(gpu, &layers)?,
            rope: rope::Rope::new(gpu, options.kv, options.head_dim)?,
            attention: attention::Attention::new(gpu, options.kv, options.head_dim, options.group_size)?,
            silu_mul: silu_mul::SiluMul::new(gpu)?,
            argmax: argmax::Argmax::new(gpu)?,
            topk: topk::Topk::new(gpu)?,
            sample: sample::Sample::new(gpu)?,
            penalty: penalty::Penalty::new(gpu)?,
            to_operand: ToOperand::new(gpu)?,
            experts: options.experts.then(|| experts::Experts::new(gpu, &[options.layers])).transpose()?,
        })
    }
}

/// One row of a batch: a token, its sequence and where it stands. Layout of `shared/row.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Row {
    /// Token id, a row of the embedding.
    pub token: u32,
    /// Sequence, a row of the block table.
    pub slot: u32,
    /// Position in the sequence: the cache entry it fills and the last one it sees.
    pub pos: u32,
    /// Position that the rotation uses; equals `pos` in ordinary attention.
    pub rope_pos: u32,
}

#[cfg(test)]
mod contract;
