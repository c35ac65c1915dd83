//! Finding adapters and choosing one: the best real GPU by default, never a CPU driver unless there is nothing else.

use qwgpu_shaders::Sources;

use crate::{
    Error, Result,
    caps::{Caps, Disabled},
};

/// One adapter of this machine and what it can do.
#[derive(Clone, Debug)]
pub struct AdapterInfo {
    /// Position in [`list_adapters`]; what `--adapter 0` means.
    pub index: usize,
    /// The driver's name for it.
    pub name: String,
    /// `vulkan`, `metal`, `dx12` or `gl`.
    pub backend: String,
    /// `discrete`, `integrated`, `virtual`, `cpu` or `other`.
    pub kind: String,
    /// Driver name and version.
    pub driver: String,
    /// PCI vendor id.
    pub vendor: u32,
    /// PCI device id.
    pub device: u32,
    /// What kernels may use.
    pub caps: Caps,
}

impl AdapterInfo {
    fn read(index: usize, adapter: &wgpu::Adapter, disabled: Disabled) -> Self {
        let info = adapter.get_info();
        let kind = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => "discrete",
            wgpu::DeviceType::IntegratedGpu => "integrated",
            wgpu::DeviceType::VirtualGpu => "virtual",
            wgpu::DeviceType::Cpu => "cpu",
            wgpu::DeviceType::Other => "other",
        };
        Self {
            index,
            caps: Caps::read(adapter, disabled),
            backend: info.backend.to_str().to_owned(),
            kind: kind.to_owned(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            vendor: info.vendor,
            device: info.device,
            name: info.name,
        }
    }

    /// Name and backend, as reports show it.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{} ({})", self.name, self.backend)
    }
}

/// What to open a [`crate::Gpu`] with.
#[derive(Clone, Debug)]
pub struct GpuOptions {
    /// Index or part of the name (case ignored) of the adapter; `None` takes the best.
    pub adapter: Option<String>,
    /// Capabilities not to use.
    pub disabled: Disabled,
    /// Where kernels come from.
    pub sources: Sources,
    /// Keep wgpu's run-time checks in shaders (bounds, loops): slower, for hunting faults.
    pub checked: bool,
    /// Pretend that no binding may be larger than this, in bytes: how tests split small matrices.
    pub max_binding: Option<u64>,
    /// Pretend that CPU drivers are quick at integer dot products: how tests without a GPU reach the products that use them.
    pub dot_on_cpu: bool,
    /// Whether optional paths must compute a known case right before they are used. The test suite turns it off: it is there to
    /// find what this would hide.
    pub self_test: bool,
    /// Whether what the driver makes of the kernels is kept in the user's cache folder (Vulkan alone).
    pub pipeline_cache: bool,
}

impl Default for GpuOptions {
    fn default() -> Self {
        Self {
            adapter: None,
            disabled: Disabled::default(),
            sources: Sources::default(),
            checked: false,
            max_binding: None,
            dot_on_cpu: false,
            self_test: true,
            pipeline_cache: true,
        }
    }
}

impl GpuOptions {
    /// Options from the environment: `QWGPU_ADAPTER`, `QWGPU_DISABLE`, `QWGPU_SHADERS`, `QWGPU_CHECKED=1`, `QWGPU_SELF_TEST=0`,
    /// `QWGPU_PIPELINE_CACHE=0`.
    ///
    /// # Errors
    /// [`Error::Environment`] for a value that is not understood.
    pub fn from_env() -> Result<Self> {
        let text = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let sources = text("QWGPU_SHADERS").map_or_else(Sources::embedded, |dir| Sources::from_dir(dir.as_ref()));
        Ok(Self {
            adapter: text("QWGPU_ADAPTER"),
            disabled: Disabled::from_env()?,
            sources,
            checked: text("QWGPU_CHECKED").is_some_and(|value| value != "0"),
            self_test: text("QWGPU_SELF_TEST").is_none_or(|value| value != "0"),
            pipeline_cache: text("QWGPU_PIPELINE_CACHE").is_none_or(|value| value != "0"),
            ..Self::default()
        })
    }
}

/// Adapters of all backends that `WGPU_BACKEND` allows (default: all), in wgpu's order.
pub(crate) fn enumerate() -> Vec<wgpu::Adapter> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.flags = wgpu::InstanceFlags::empty();
    let descriptor = descriptor.with_env();
    let backends = descriptor.backends;
    let instance = wgpu::Instance::new(descriptor);
    pollster::block_on(instance.enumerate_adapters(backends))
}

/// Every adapter of this machine, in the order that indices count.
///
/// # Errors
/// [`Error::Environment`] when `QWGPU_DISABLE` is not understood.
pub fn list_adapters() -> Result<Vec<AdapterInfo>> {
    let disabled = Disabled::from_env()?;
    Ok(enumerate()
        .iter()
        .enumerate()
        .map(|(index, adapter)| AdapterInfo::read(index, adapter, disabled))
        .collect())
}

/// Real GPUs before CPU drivers, native APIs before GL; among equals the first.
fn rank(info: &AdapterInfo) -> (u32, u32) {
    let kind = match info.kind.as_str() {
        "discrete" => 0,
        "integrated" => 1,
        "virtual" => 2,
        "other" => 3,
        _ => 4,
    };
    (kind, u32::from(info.backend == "gl"))
}

/// Chooses an adapter as `options` say.
pub(crate) fn choose(options: &GpuOptions) -> Result<(wgpu::Adapter, AdapterInfo)> {
    let mut adapters = enumerate();
    let mut infos: Vec<AdapterInfo> = adapters
        .iter()
        .enumerate()
        .map(|(index, adapter)| AdapterInfo::read(index, adapter, options.disabled))
        .collect();
    if let Some(max) = options.max_binding {
        infos
            .iter_mut()
            .for_each(|info| info.caps.max_binding = info.caps.max_binding.min(max));
    }
    if options.dot_on_cpu {
        infos.iter_mut().for_each(|info| info.caps.dot_is_fast = true);
    }
    if infos.is_empty() {
        return Err(Error::NoAdapter {
            reason: "there is no Vulkan, Metal, DX12 or GL adapter; install your GPU's driver, or a software one \
                     (Debian and Ubuntu: mesa-vulkan-drivers)"
                .into(),
        });
    }
    let index = match &options.adapter {
        None => (0..infos.len()).min_by_key(|&i| rank(&infos[i])),
        Some(wanted) => find(&infos, wanted),
    };
    let Some(index) = index else {
        let found: Vec<String> = infos.iter().map(|info| format!("{} {}", info.index, info.label())).collect();
        return Err(Error::UnknownAdapter {
            wanted: options.adapter.clone().unwrap_or_default(),
            found: found.join(", "),
        });
    };
    Ok((adapters.swap_remove(index), infos[index].clone()))
}

/// The adapter with that index, or the best one whose name, backend or kind contains the text.
fn find(infos: &[AdapterInfo], wanted: &str) -> Option<usize> {
    if let Ok(index) = wanted.parse::<usize>() {
        return (index < infos.len()).then_some(index);
    }
    let wanted = wanted.to_lowercase();
    let matches = |info: &AdapterInfo| {
        format!("{} {} {}", info.name, info.backend, info.kind)
            .to_lowercase()
            .contains(&wanted)
    };
    (0..infos.len()).filter(|&i| matches(&infos[i])).min_by_key(|&i| rank(&infos[i]))
}
