//! What is taken away from an adapter, so that portable twins run on a machine that would never choose them.

use qwgpu_runtime::{Caps, GpuOptions};

/// Something that decides which text a kernel is compiled from, or how its input is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Axis {
    /// The f16 type.
    F16,
    /// Subgroup operations.
    Subgroup,
    /// Cooperative matrices.
    Coop,
    /// Packed 8-bit dot products.
    Dot,
    /// The largest binding, which decides into how many parts a matrix is split.
    Binding,
}

impl Axis {
    /// Whether the adapter has it, so that it can be taken away.
    #[must_use]
    pub fn offered(self, caps: &Caps) -> bool {
        match self {
            Self::F16 => caps.f16,
            Self::Subgroup => caps.subgroup,
            Self::Coop => !caps.coop.is_empty(),
            Self::Dot => caps.dot,
            Self::Binding => true,
        }
    }
}

/// A device with some capabilities taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// The adapter as it is.
    Native,
    /// No f16 type.
    NoF16,
    /// No subgroup operations.
    NoSubgroup,
    /// No cooperative matrices.
    NoCoop,
    /// No packed 8-bit dot products.
    NoDot,
    /// None of the four: what the weakest adapter runs.
    Portable,
    /// No binding above [`Mode::SMALL_BINDING`], so that small matrices are split into parts.
    SmallBinding,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 7] = [
        Self::Native,
        Self::NoF16,
        Self::NoSubgroup,
        Self::NoCoop,
        Self::NoDot,
        Self::Portable,
        Self::SmallBinding,
    ];

    /// Bytes of the largest binding in [`Mode::SmallBinding`]: a few rows of a test matrix, yet room for its activations.
    pub const SMALL_BINDING: u64 = 64 << 10;

    /// The name that reports show.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::NoF16 => "no-f16",
            Self::NoSubgroup => "no-subgroup",
            Self::NoCoop => "no-coop",
            Self::NoDot => "no-dot",
            Self::Portable => "portable",
            Self::SmallBinding => "small-binding",
        }
    }

    const fn takes(self) -> &'static [Axis] {
        match self {
            Self::Native => &[],
            Self::NoF16 => &[Axis::F16],
            Self::NoSubgroup => &[Axis::Subgroup],
            Self::NoCoop => &[Axis::Coop],
            Self::NoDot => &[Axis::Dot],
            Self::Portable => &[Axis::F16, Axis::Subgroup, Axis::Coop, Axis::Dot],
            Self::SmallBinding => &[Axis::Binding],
        }
    }

    /// The modes in which a case that depends on `axes` says something new on an adapter: one for each set of capabilities that
    /// can be taken away and makes a difference.
    #[must_use]
    pub fn telling(axes: &[Axis], caps: &Caps) -> Vec<Self> {
        let mut seen: Vec<Vec<Axis>> = Vec::new();
        let tells = |mode: &Self| {
            let matters = |axis: &Axis| axes.contains(axis) && axis.offered(caps);
            let lost: Vec<Axis> = mode.takes().iter().copied().filter(matters).collect();
            let new = !seen.contains(&lost);
            seen.push(lost);
            new
        };
        Self::ALL.into_iter().filter(tells).collect()
    }

    /// Takes away what this mode lacks.
    pub(crate) fn restrict(self, options: &mut GpuOptions) {
        for axis in self.takes() {
            match axis {
                Axis::F16 => options.disabled.f16 = true,
                Axis::Subgroup => options.disabled.subgroup = true,
                Axis::Coop => options.disabled.coop = true,
                Axis::Dot => options.disabled.dot = true,
                Axis::Binding => options.max_binding = Some(Self::SMALL_BINDING),
            }
        }
    }
}
