//! What an adapter can do, read once, and what the user took away from it.

use crate::{Error, Result};

/// Capabilities that `QWGPU_DISABLE` can take away, so that every portable twin can be tried on any machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disabled {
    /// The f16 type.
    pub f16: bool,
    /// Subgroup operations.
    pub subgroup: bool,
    /// Cooperative matrices.
    pub coop: bool,
    /// Packed 8-bit dot products.
    pub dot: bool,
}

impl Disabled {
    /// Parses a comma-separated list such as `f16,subgroup,coop,dot`; empty means nothing.
    ///
    /// # Errors
    /// [`Error::Environment`] for a word that is not in that list.
    pub fn parse(list: &str) -> Result<Self> {
        let mut disabled = Self::default();
        for word in list.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match word {
                "f16" => disabled.f16 = true,
                "subgroup" => disabled.subgroup = true,
                "coop" => disabled.coop = true,
                "dot" => disabled.dot = true,
                _ => {
                    return Err(Error::Environment {
                        name: "QWGPU_DISABLE".into(),
                        value: list.into(),
                        reason: format!("`{word}` is none of f16, subgroup, coop, dot"),
                    });
                }
            }
        }
        Ok(disabled)
    }

    /// The value of `QWGPU_DISABLE`, if set.
    ///
    /// # Errors
    /// As [`Disabled::parse`].
    pub fn from_env() -> Result<Self> {
        Self::parse(&std::env::var("QWGPU_DISABLE").unwrap_or_default())
    }
}

/// One shape that the adapter multiplies cooperatively, with its element types spelled as in WGSL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoopShape {
    /// Rows of A and C.
    pub m: u32,
    /// Columns of B and C.
    pub n: u32,
    /// Columns of A, rows of B.
    pub k: u32,
    /// Element type of A and B.
    pub operands: String,
    /// Element type of C.
    pub accumulator: String,
}

/// What kernels may use on one adapter, after `QWGPU_DISABLE`.
#[derive(Clone, Debug)]
pub struct Caps {
    /// The f16 type in shaders and storage.
    pub f16: bool,
    /// Subgroup operations, on subgroups of at least four lanes.
    pub subgroup: bool,
    /// Smallest subgroup the adapter may run with.
    pub subgroup_min: u32,
    /// Largest subgroup the adapter may run with.
    pub subgroup_max: u32,
    /// Cooperative matrix shapes; empty where there are none.
    pub coop: Vec<CoopShape>,
    /// `dot4I8Packed`. naga lowers it everywhere; only some adapters have an instruction for it.
    pub dot: bool,
    /// Whether integer dot products may be quicker than f32: CPU drivers have no instruction for them.
    pub dot_is_fast: bool,
    /// GPU timestamps.
    pub timestamps: bool,
    /// Whether the adapter is a CPU driver.
    pub cpu: bool,
    /// Largest storage binding in bytes.
    pub max_binding: u64,
    /// Largest buffer in bytes.
    pub max_buffer: u64,
    /// Workgroup memory in bytes.
    pub workgroup_memory: u32,
    /// Invocations of a workgroup.
    pub max_invocations: u32,
    /// Workgroups in one dimension of a dispatch.
    pub max_workgroups: u32,
    /// Storage buffers of one kernel.
    pub max_storage_buffers: u32,
    /// Bytes of immediates.
    pub max_immediates: u32,
}

impl Caps {
    /// Reads the adapter and applies `disabled`.
    pub(crate) fn read(adapter: &wgpu::Adapter, disabled: Disabled) -> Self {
        let features = adapter.features();
        let limits = adapter.limits();
        let info = adapter.get_info();
        let has = |feature| features.contains(feature);
        let mut coop = Vec::new();
        if has(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX) && !disabled.coop {
            coop = adapter.cooperative_matrix_properties().iter().map(coop_shape).collect();
        }
        Self {
            f16: has(wgpu::Features::SHADER_F16) && !disabled.f16,
            // the partial sums in workgroup memory are laid out for subgroups of four lanes and more
            subgroup: has(wgpu::Features::SUBGROUP) && !disabled.subgroup && info.subgroup_min_size >= 4,
            subgroup_min: info.subgroup_min_size,
            subgroup_max: info.subgroup_max_size,
            coop,
            dot: !disabled.dot,
            dot_is_fast: info.device_type != wgpu::DeviceType::Cpu,
            timestamps: has(wgpu::Features::TIMESTAMP_QUERY),
            cpu: info.device_type == wgpu::DeviceType::Cpu,
            max_binding: limits.max_storage_buffer_binding_size,
            max_buffer: limits.max_buffer_size,
            workgroup_memory: limits.max_compute_workgroup_storage_size,
            max_invocations: limits.max_compute_invocations_per_workgroup,
            max_workgroups: limits.max_compute_workgroups_per_dimension,
            max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
            max_immediates: limits.max_immediate_size,
        }
    }
}

fn coop_shape(shape: &wgpu::CooperativeMatrixProperties) -> CoopShape {
    let name = |scalar: wgpu::CooperativeScalarType| format!("{scalar:?}").to_lowercase();
    CoopShape {
        m: shape.m_size,
        n: shape.n_size,
        k: shape.k_size,
        operands: name(shape.ab_type),
        accumulator: name(shape.cr_type),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disable_list() {
        assert_eq!(Disabled::parse("").unwrap(), Disabled::default());
        let some = Disabled::parse("f16, dot").unwrap();
        assert!(some.f16 && some.dot && !some.subgroup && !some.coop);
        let message = Disabled::parse("f16,fast").unwrap_err().to_string();
        assert!(message.contains("`fast`"), "{message}");
    }
}
