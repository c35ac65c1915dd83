//! Host and WGSL must agree: each kernel's `Params` and bindings are compared with what naga reads in the composed text.

use naga::{AddressSpace, StorageAccess, TypeInner};
use qwgpu_shaders::{Sources, Variant, compose};

use super::*;

fn fields(variant: &Variant) -> &'static [(&'static str, &'static str)] {
    match variant {
        Variant::Embed { .. } => embed::Params::FIELDS,
        Variant::EmbedStep { .. } => embed_step::Params::FIELDS,
        Variant::RmsNorm { .. } => rms_norm::Params::FIELDS,
        Variant::Matvec { .. } => matvec::Params::FIELDS,
        Variant::NormQkvRope { .. } => norm_qkv_rope::Params::FIELDS,
        Variant::NormGateUp { .. } => norm_gate_up::Params::FIELDS,
        Variant::Router | Variant::RouterDecode { .. } => router::Params::FIELDS,
        Variant::ExpertsGateUp { .. } => experts_gate_up::Params::FIELDS,
        Variant::ExpertsDown { .. } => experts_down::Params::FIELDS,
        Variant::MatvecDot { .. } => matvec_dot::Params::FIELDS,
        Variant::NormQuantize { .. } => norm_quantize::Params::FIELDS,
        Variant::GateUpDot { .. } => gate_up_dot::Params::FIELDS,
        Variant::QkvRopeDot { .. } => qkv_rope_dot::Params::FIELDS,
        Variant::NormQkvRopeDot { .. } => norm_qkv_rope_dot::Params::FIELDS,
        Variant::ExpertsGateUpDot { .. } => experts_gate_up_dot::Params::FIELDS,
        Variant::ExpertsDownDot { .. } => experts_down_dot::Params::FIELDS,
        Variant::Quantize => quantize::Params::FIELDS,
        Variant::Matmul { grouped: false, .. } => matmul::Params::FIELDS,
        Variant::MatmulCoop { grouped: false, .. } => matmul_coop::Params::FIELDS,
        Variant::Matmul { grouped: true, .. } | Variant::MatmulCoop { grouped: true, .. } => matmul_experts::Params::FIELDS,
        Variant::GroupExperts => group_experts::Params::FIELDS,
        Variant::CombineExperts => combine_experts::Params::FIELDS,
        Variant::ToF16 => to_f16::Params::FIELDS,
        Variant::NormToF16 { .. } => norm_to_f16::Params::FIELDS,
        Variant::SiluMulToF16 => silu_mul_to_f16::Params::FIELDS,
        Variant::Rope { .. } => rope::Params::FIELDS,
        Variant::AttentionPrefill { .. } => attention_prefill::Params::FIELDS,
        Variant::AttentionPrefillCoop { .. } => attention_prefill_coop::Params::FIELDS,
        Variant::AttentionDecode { .. } => attention_decode::Params::FIELDS,
        Variant::AttentionDecodeCoop { .. } => attention_decode_coop::Params::FIELDS,
        Variant::AttentionShort { .. } => attention_short::Params::FIELDS,
        Variant::GateUpBytes { .. } => gate_up_bytes::Params::FIELDS,
        Variant::AttentionMerge { .. } => attention_merge::Params::FIELDS,
        Variant::SiluMul => silu_mul::Params::FIELDS,
        Variant::Argmax { .. } => argmax::Params::FIELDS,
        Variant::Topk => topk::Params::FIELDS,
        Variant::Sample => sample::Params::FIELDS,
        Variant::Penalty => penalty::Params::FIELDS,
        Variant::FillRandom => fill_random::Params::FIELDS,
        Variant::Probe(_) => crate::self_test::Params::FIELDS,
        Variant::Peak(_) => peak::Params::FIELDS,
    }
}

#[test]
fn params_and_bindings_match_the_wgsl() {
    for variant in Variant::all() {
        let text = compose(&variant, &Sources::embedded()).unwrap();
        let module = naga::front::wgsl::parse_str(&text).unwrap_or_else(|e| panic!("{variant:?}: {}", e.emit_to_string(&text)));
        let immediate = module
            .global_variables
            .iter()
            .find(|(_, v)| v.space == AddressSpace::Immediate)
            .expect("params")
            .1;
        let TypeInner::Struct { members, span } = &module.types[immediate.ty].inner else {
            panic!("{variant:?}: params is no struct")
        };
        let found: Vec<(String, String, u32)> = members
            .iter()
            .map(|m| {
                let TypeInner::Scalar(scalar) = module.types[m.ty].inner else {
                    panic!("{variant:?}: Params hold scalars")
                };
                let ty = if scalar == naga::Scalar::F32 { "f32" } else { "u32" };
                (m.name.clone().unwrap(), ty.to_owned(), m.offset)
            })
            .collect();
        let expected: Vec<(String, String, u32)> = (0..)
            .zip(fields(&variant))
            .map(|(i, (name, ty))| ((*name).to_owned(), (*ty).to_owned(), 4 * i))
            .collect();
        assert_eq!(found, expected, "{variant:?}");
        assert!(*span <= crate::gpu::MAX_PARAMS, "{variant:?}: {span} bytes of params");

        let mut storage: Vec<(u32, Access)> = module
            .global_variables
            .iter()
            .filter_map(|(_, v)| match v.space {
                AddressSpace::Storage { access } => {
                    let access = if access.contains(StorageAccess::STORE) {
                        Access::Write
                    } else {
                        Access::Read
                    };
                    Some((v.binding.expect("a binding").binding, access))
                }
                _ => None,
            })
            .collect();
        storage.sort_by_key(|(binding, _)| *binding);
        assert_eq!(storage, bindings(&variant), "{variant:?}");
    }
}
