//! From a [`Variant`] to a compute pipeline with an explicit layout.

use std::{
    borrow::Cow,
    collections::HashSet,
    sync::{OnceLock, atomic::AtomicBool},
};

use qwgpu_shaders::{Variant, compose};

use crate::{Error, Gpu, Result, buffer::Buffer, gpu::MAX_PARAMS, kernels::bindings};

/// Whether a kernel only reads a binding or also writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// `var<storage, read>`.
    Read,
    /// `var<storage, read_write>`.
    Write,
}

/// A kernel, compiled before it is first dispatched.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub(crate) variant: Variant,
    /// Whether a pass has used it.
    pub(crate) dispatched: AtomicBool,
    compiled: OnceLock<Compiled>,
}

#[derive(Debug)]
struct Compiled {
    raw: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
    /// Binding numbers, in the order of the buffers that a dispatch hands over.
    numbers: Vec<u32>,
}

/// What a cached bind group is made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BindKey {
    variant: Variant,
    buffers: Vec<u64>,
}

impl BindKey {
    pub(crate) fn new(pipeline: &Pipeline, buffers: &[&Buffer]) -> Self {
        Self {
            variant: pipeline.variant,
            buffers: buffers.iter().map(|buffer| buffer.id).collect(),
        }
    }

    pub(crate) fn uses_any(&self, ids: &HashSet<u64>) -> bool {
        self.buffers.iter().any(|id| ids.contains(id))
    }
}

impl Pipeline {
    /// Compiles `variant`.
    pub(crate) fn new(gpu: &Gpu, variant: Variant) -> Result<Self> {
        let pipeline = Self::declared(variant);
        pipeline.compile(gpu)?;
        Ok(pipeline)
    }

    /// One that [`Pipeline::compile`] is still to be called on.
    pub(crate) const fn declared(variant: Variant) -> Self {
        Self {
            variant,
            dispatched: AtomicBool::new(false),
            compiled: OnceLock::new(),
        }
    }

    /// Compiles it. Errors carry the composed text with line numbers, since no file on disk has it.
    pub(crate) fn compile(&self, gpu: &Gpu) -> Result<()> {
        let variant = self.variant;
        let text = compose(&variant, &gpu.sources).map_err(|error| Error::ShaderFile {
            path: error.path.display().to_string(),
            source: error.source,
        })?;
        let label = format!("{variant:?}");
        let scope = gpu.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let internal = gpu.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let module = shader_module(gpu, &label, &text);
        let bindings = bindings(&variant);
        let layout = bind_group_layout(gpu, &label, &bindings);
        let pipeline_layout = gpu.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(&label),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: MAX_PARAMS,
        });
        let raw = gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(&label),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: gpu.pipeline_cache.as_ref().map(|cache| &cache.raw),
        });
        let failure = pollster::block_on(internal.pop());
        let invalid = pollster::block_on(scope.pop());
        if let Some(error) = invalid.or(failure) {
            let numbered: String = text.lines().enumerate().map(|(i, line)| format!("{:4} {line}\n", i + 1)).collect();
            log::error!("{label} as composed:\n{numbered}");
            return Err(Error::Shader {
                label,
                reason: error.to_string(),
            });
        }
        // it is the same where another thread was first
        let _ = self.compiled.set(Compiled {
            raw,
            layout,
            numbers: bindings.iter().map(|(number, _)| *number).collect(),
        });
        Ok(())
    }

    /// # Panics
    /// When it was declared and not compiled.
    #[track_caller]
    fn compiled(&self) -> &Compiled {
        let compiled = self.compiled.get();
        compiled.unwrap_or_else(|| panic!("{:?} is dispatched before it was compiled", self.variant))
    }

    pub(crate) fn raw(&self) -> &wgpu::ComputePipeline {
        &self.compiled().raw
    }

    pub(crate) fn bind(&self, device: &wgpu::Device, buffers: &[&Buffer]) -> wgpu::BindGroup {
        let numbered = self.compiled().numbers.iter().copied().zip(buffers);
        let entries: Vec<wgpu::BindGroupEntry<'_>> = numbered
            .map(|(binding, buffer)| wgpu::BindGroupEntry {
                binding,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: &buffer.raw,
                    offset: buffer.offset,
                    size: wgpu::BufferSize::new(buffer.bytes),
                }),
            })
            .collect();
        device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(self.variant.stem()),
            layout: &self.compiled().layout,
            entries: &entries,
        })
    }
}

/// Kernels clamp their own indices and end their own loops, which the suite checks with poisoned borders; wgpu's checks on top
/// would be paid for in every inner loop.
fn shader_module(gpu: &Gpu, label: &str, text: &str) -> wgpu::ShaderModule {
    let descriptor = wgpu::ShaderModuleDescriptor {
        label: Some(label),
        source: wgpu::ShaderSource::Wgsl(Cow::Borrowed(text)),
    };
    if gpu.checked {
        return gpu.device.create_shader_module(descriptor);
    }
    // SAFETY: every index in shaders/ is derived from Params and workgroup ids that dispatch() bounds by the bound buffers' sizes,
    // and every loop has a bound that does not depend on data.
    unsafe {
        gpu.device
            .create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
    }
}

fn bind_group_layout(gpu: &Gpu, label: &str, bindings: &[(u32, Access)]) -> wgpu::BindGroupLayout {
    let entries: Vec<wgpu::BindGroupLayoutEntry> = bindings
        .iter()
        .map(|(binding, access)| wgpu::BindGroupLayoutEntry {
            binding: *binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Storage {
                    read_only: *access == Access::Read,
                },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        })
        .collect();
    gpu.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label: Some(label),
        entries: &entries,
    })
}
