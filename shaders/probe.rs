//! The self-test's shaders in all their forms: no model runs them, so they have a table of their own.

use crate::Variant;

/// Shape and operand type of a cooperative product; sums are f32. Picks one `shared/coop_*.wgsl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CoopTile {
    /// 16x16x16, f16 operands.
    M16F16,
    /// 8x8x8, f16 operands.
    M8F16,
    /// 8x8x8, f32 operands.
    M8F32,
}

impl CoopTile {
    /// Every tile, the one that kernels would rather use first.
    pub const ALL: [Self; 3] = [Self::M16F16, Self::M8F16, Self::M8F32];

    /// Rows, columns and depth.
    #[must_use]
    pub const fn size(self) -> u32 {
        match self {
            Self::M16F16 => 16,
            Self::M8F16 | Self::M8F32 => 8,
        }
    }

    /// Whether operands are f16.
    #[must_use]
    pub const fn is_f16(self) -> bool {
        matches!(self, Self::M16F16 | Self::M8F16)
    }

    pub(crate) const fn part(self) -> &'static str {
        match self {
            Self::M16F16 => "coop_16_f16",
            Self::M8F16 => "coop_8_f16",
            Self::M8F32 => "coop_8_f32",
        }
    }
}

/// A small known computation that an optional path of an adapter must get right before kernels use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Probe {
    /// The f16 type.
    F16,
    /// Subgroup operations, in workgroups of this size.
    Subgroup {
        /// Invocations of a workgroup.
        workgroup: u32,
    },
    /// Packed 8-bit dot products.
    Dot,
    /// Cooperative matrices of this tile.
    Coop(CoopTile),
}

impl Probe {
    /// Every probe: the workgroup sizes are those in which kernels reduce.
    pub const ALL: [Self; 8] = [
        Self::F16,
        Self::Subgroup { workgroup: 32 },
        Self::Subgroup { workgroup: 64 },
        Self::Subgroup { workgroup: 256 },
        Self::Dot,
        Self::Coop(CoopTile::M16F16),
        Self::Coop(CoopTile::M8F16),
        Self::Coop(CoopTile::M8F32),
    ];

    pub(crate) fn variants() -> impl Iterator<Item = Variant> {
        Self::ALL.into_iter().map(Variant::Probe)
    }

    /// The name of its file.
    #[must_use]
    pub const fn stem(&self) -> &'static str {
        match self {
            Self::F16 => "probe_f16",
            Self::Subgroup { .. } => "probe_subgroup",
            Self::Dot => "probe_dot",
            Self::Coop(_) => "probe_coop",
        }
    }

    pub(crate) const fn needs_f16(&self) -> bool {
        match self {
            Self::F16 => true,
            Self::Coop(tile) => tile.is_f16(),
            _ => false,
        }
    }

    pub(crate) fn parts(&self) -> Vec<&'static str> {
        match self {
            Self::Coop(tile) => vec![tile.part()],
            _ => vec![],
        }
    }

    pub(crate) fn consts(&self) -> Vec<(&'static str, u32)> {
        match *self {
            Self::Subgroup { workgroup } => vec![("WORKGROUP", workgroup)],
            _ => vec![],
        }
    }
}
