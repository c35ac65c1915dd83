//! Every variant is parsed, validated and translated for every backend that could run it, without a GPU.

use naga::{
    ShaderStage,
    back::{glsl, hlsl, msl, spv},
    proc::BoundsCheckPolicies,
    valid::{Capabilities, ModuleInfo, ValidationFlags, Validator},
};
use qwgpu_shaders::{SCALES_BINDING, Sources, Variant, Weights, compose};

/// Composes, parses and validates with exactly the capabilities that the variant may use.
fn check(variant: &Variant) -> (naga::Module, ModuleInfo) {
    let text = compose(variant, &Sources::embedded()).expect("embedded sources are always there");
    let module = naga::front::wgsl::parse_str(&text).unwrap_or_else(|e| panic!("{variant:?}:\n{}", e.emit_to_string(&text)));
    let mut capabilities = Capabilities::IMMEDIATES | Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    capabilities.set(Capabilities::SHADER_FLOAT16, variant.needs_f16());
    capabilities.set(Capabilities::SUBGROUP, variant.needs_subgroups());
    capabilities.set(Capabilities::COOPERATIVE_MATRIX, variant.needs_coop());
    let info = Validator::new(ValidationFlags::all(), capabilities)
        .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
        .subgroup_operations(naga::valid::SubgroupOperationSet::all())
        .validate(&module)
        .unwrap_or_else(|e| panic!("{variant:?}:\n{}", e.emit_to_string(&text)));
    (module, info)
}

fn n_storage_buffers(module: &naga::Module) -> usize {
    module
        .global_variables
        .iter()
        .filter(|(_, v)| matches!(v.space, naga::AddressSpace::Storage { .. }))
        .count()
}

fn workgroup_bytes(module: &naga::Module) -> u32 {
    let mut layouter = naga::proc::Layouter::default();
    layouter.update(module.to_ctx()).expect("a validated module has a layout");
    let workgroup = module
        .global_variables
        .iter()
        .filter(|(_, v)| v.space == naga::AddressSpace::WorkGroup);
    workgroup.map(|(_, v)| layouter[v.ty].size).sum()
}

#[test]
fn every_variant_is_valid_and_within_webgpu_limits() {
    let all = Variant::all();
    assert!(all.len() > 200, "the table of variants has shrunk to {}", all.len());
    for variant in &all {
        let (module, _) = check(variant);
        let entry = &module.entry_points[0];
        assert_eq!(entry.name, "main", "{variant:?}");
        // the host asks an adapter with matrix units what it allows before it takes a grid of them
        let (invocations, memory) = match variant {
            Variant::MatmulCoop { grid, .. } => (grid.workgroup(), grid.workgroup_memory()),
            Variant::AttentionPrefillCoop { subgroup, .. } => (8 * subgroup, 46 << 10),
            Variant::AttentionDecodeCoop { subgroup, .. } => (8 * subgroup, 47 << 10),
            _ => (256, 32 << 10),
        };
        assert!(
            entry.workgroup_size.iter().product::<u32>() <= invocations,
            "{variant:?}: more than {invocations} invocations"
        );
        assert!(n_storage_buffers(&module) <= 8, "{variant:?}: more than 8 storage buffers");
        assert!(
            workgroup_bytes(&module) <= memory,
            "{variant:?}: {} bytes of workgroup memory",
            workgroup_bytes(&module)
        );
    }
}

#[test]
fn bindings_are_contiguous_but_for_scales() {
    for variant in Variant::all() {
        let (module, _) = check(&variant);
        let mut bindings: Vec<u32> = module
            .global_variables
            .iter()
            .filter_map(|(_, v)| v.binding)
            .map(|b| b.binding)
            .collect();
        bindings.sort_unstable();
        if variant.weights().is_some_and(Weights::has_scales) {
            assert_eq!(bindings.pop(), Some(SCALES_BINDING), "{variant:?}");
        }
        let expected: Vec<u32> = (0..bindings.len() as u32).collect();
        assert_eq!(bindings, expected, "{variant:?}");
    }
}

#[test]
fn translates_to_spirv() {
    for variant in Variant::all() {
        let (module, info) = check(&variant);
        let options = spv::Options {
            lang_version: (1, 3),
            ..Default::default()
        };
        let words = spv::write_vec(&module, &info, &options, None).unwrap_or_else(|e| panic!("{variant:?}: {e}"));
        assert_eq!(words[0], 0x0723_0203, "{variant:?}: not SPIR-V");
    }
}

/// naga translates cooperative matrices for Vulkan, and for Metal in other sizes; DX12 has none.
fn without_coop() -> impl Iterator<Item = Variant> {
    Variant::all().into_iter().filter(|variant| !variant.needs_coop())
}

#[test]
fn translates_to_hlsl() {
    for variant in without_coop() {
        let (module, info) = check(&variant);
        let options = hlsl::Options {
            shader_model: hlsl::ShaderModel::V6_2,
            immediates_target: Some(hlsl::BindTarget {
                space: 1,
                ..Default::default()
            }),
            fake_missing_bindings: true,
            ..Default::default()
        };
        let mut text = String::new();
        hlsl::Writer::new(&mut text, &options, &Default::default())
            .write(&module, &info, None)
            .unwrap_or_else(|e| panic!("{variant:?}: {e}"));
        assert!(text.contains("numthreads"), "{variant:?}");
    }
}

#[test]
fn translates_to_msl() {
    for variant in without_coop() {
        let (module, info) = check(&variant);
        let options = msl::Options {
            lang_version: (2, 4),
            fake_missing_bindings: true,
            ..Default::default()
        };
        let (text, _) = msl::write_string(&module, &info, &options, &Default::default()).unwrap_or_else(|e| panic!("{variant:?}: {e}"));
        assert!(text.contains("kernel void"), "{variant:?}");
    }
}

/// GLSL ES has neither f16 nor subgroups nor cooperative matrices in naga, so only the portable twins must translate.
#[test]
fn portable_variants_translate_to_glsl_es() {
    let portable: Vec<Variant> = without_coop().filter(|v| !v.needs_f16() && !v.needs_subgroups()).collect();
    assert!(!portable.is_empty());
    for variant in portable {
        let (module, info) = check(&variant);
        let options = glsl::Options {
            version: glsl::Version::Embedded {
                version: 310,
                is_webgl: false,
            },
            ..Default::default()
        };
        let pipeline = glsl::PipelineOptions {
            shader_stage: ShaderStage::Compute,
            entry_point: "main".into(),
            multiview: None,
        };
        let mut text = String::new();
        glsl::Writer::new(&mut text, &module, &info, &options, &pipeline, BoundsCheckPolicies::default())
            .and_then(|mut writer| writer.write())
            .unwrap_or_else(|e| panic!("{variant:?}: {e}"));
        assert!(text.contains("local_size_x"), "{variant:?}");
    }
}
