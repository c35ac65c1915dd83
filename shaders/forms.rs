//! What varies from one adapter and model to the next, as types: no strings, no text macros.

use crate::CoopTile;

/// How weights are stored in their binding; picks one `shared/weight_*.wgsl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Weights {
    /// f32.
    F32,
    /// f16, read through the f16 type.
    F16,
    /// f16, unpacked from u32: any adapter.
    F16Packed,
    /// bf16, unpacked from u32: any adapter.
    Bf16,
    /// Signed bytes in blocks of 32 with an f16 scale, unpacked from u32: any adapter.
    Q8,
    /// Four-bit integers in blocks of 32 with a scale and a zero point, unpacked from u32: any adapter.
    Q4,
}

/// Where quantised weights have their scales: far behind what any kernel binds of its own.
pub const SCALES_BINDING: u32 = 15;

impl Weights {
    /// Every format.
    pub const ALL: [Self; 6] = [Self::F32, Self::F16, Self::F16Packed, Self::Bf16, Self::Q8, Self::Q4];

    /// Whether scales lie at [`SCALES_BINDING`].
    #[must_use]
    pub const fn has_scales(self) -> bool {
        matches!(self, Self::Q8 | Self::Q4)
    }
}

/// How the KV cache is stored; picks one `shared/kv_*.wgsl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kv {
    /// f32: any adapter.
    F32,
    /// f16, read through the f16 type.
    F16,
}

impl Kv {
    /// Both formats.
    pub const ALL: [Self; 2] = [Self::F32, Self::F16];
}

/// How a workgroup adds or compares across its invocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reduce {
    /// Subgroup operations, or workgroup memory alone.
    pub subgroup: bool,
    /// Invocations of a workgroup, a power of two from 32 to 256.
    pub workgroup: u32,
}

impl Reduce {
    /// With and without subgroups, for one workgroup size.
    #[must_use]
    pub const fn both(workgroup: u32) -> [Self; 2] {
        [
            Self {
                subgroup: false,
                workgroup,
            },
            Self { subgroup: true, workgroup },
        ]
    }
}

/// Rows to an invocation under [`Split::Rows`]: what is read of x serves all.
pub const ROWS_EACH: u32 = 4;

/// How a workgroup shares out its rows of a matrix, in products with few vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// An invocation has some columns of every row, and the workgroup adds up.
    Columns(Reduce),
    /// An invocation has [`ROWS_EACH`] rows, and all their columns: for CPU drivers.
    Rows,
}

impl Split {
    /// Invocations of a workgroup that has so many rows.
    #[must_use]
    pub const fn workgroup(self, rows: u32) -> u32 {
        match self {
            Self::Columns(reduce) => reduce.workgroup,
            Self::Rows => rows / ROWS_EACH,
        }
    }

    /// Whether sums take subgroup operations.
    #[must_use]
    pub const fn needs_subgroups(self) -> bool {
        matches!(self, Self::Columns(Reduce { subgroup: true, .. }))
    }

    /// Whether so many invocations with so many rows of the matrix have rows of their own: where there are more rows than invocations.
    #[must_use]
    pub const fn is_by_rows(workgroup: u32, rows: u32) -> bool {
        rows > workgroup
    }

    /// Every way for a share of [`STEP_SHARES`].
    #[must_use]
    pub fn of_share((workgroup, rows): (u32, u32)) -> Vec<Self> {
        if Self::is_by_rows(workgroup, rows) {
            vec![Self::Rows]
        } else {
            Reduce::both(workgroup).map(Self::Columns).to_vec()
        }
    }
}

/// How the subgroups of a workgroup share out a tile of cooperative matrices: `side` by `side` of them, 2 by 2 matrices each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CoopGrid {
    /// The matrices.
    pub tile: CoopTile,
    /// Invocations of a subgroup, 32 or 64: the same for all on the adapter.
    pub subgroup: u32,
    /// Subgroups in each direction, 2 or 4.
    pub side: u32,
}

impl CoopGrid {
    /// Every grid: f16 operands, the only ones that weights are turned into.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let kinds = [(CoopTile::M16F16, 32), (CoopTile::M16F16, 64), (CoopTile::M8F16, 32)];
        let grids = kinds.map(|(tile, subgroup)| [2, 4].map(|side| Self { tile, subgroup, side }));
        grids.concat()
    }

    /// Invocations of a workgroup.
    #[must_use]
    pub const fn workgroup(self) -> u32 {
        self.side * self.side * self.subgroup
    }

    /// Rows and columns of the output that a workgroup owns.
    #[must_use]
    pub const fn outputs(self) -> u32 {
        self.side * 2 * self.tile.size()
    }

    /// Bytes of workgroup memory of [`crate::Variant::MatmulCoop`]: two slabs of 64 columns and 8 of padding in f16, a matrix of sums for
    /// every second subgroup, and for experts the rows of the tile.
    #[must_use]
    pub const fn workgroup_memory(self) -> u32 {
        let sums = (self.side * self.side).div_ceil(2) * self.tile.size() * self.tile.size();
        2 * self.outputs() * (64 + 8) * 2 + sums * 4 + self.outputs() * 4 + 16
    }
}

/// A ceiling of the adapter that a `peak_*` kernel measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peak {
    /// Reading memory.
    Read,
    /// f32 multiply-adds.
    F32,
    /// f16 multiply-adds.
    F16,
    /// Packed 8-bit dot products.
    Dot,
    /// Cooperative matrices of 16 x 16, f16 into f32.
    Coop {
        /// Invocations of a workgroup: one subgroup, 32 or 64.
        workgroup: u32,
    },
}

impl Peak {
    /// Every form.
    pub const ALL: [Self; 6] = [
        Self::Read,
        Self::F32,
        Self::F16,
        Self::Dot,
        Self::Coop { workgroup: 32 },
        Self::Coop { workgroup: 64 },
    ];
}

/// Head sizes that the attention kernels are written for.
pub const HEAD_DIMS: [u32; 2] = [64, 128];

/// The largest number of query heads that may share a kv head.
pub const MAX_GROUP: u32 = 16;

/// Splits of the context that attention_merge joins at most.
pub const MAX_SPLITS: u32 = 64;

/// The largest number of experts that a router chooses from: keys and ids of eight tokens fit in workgroup memory.
pub const MAX_EXPERTS: u32 = 256;

/// The largest number of experts that one token may have, chosen ones and slices of the shared one together.
pub const MAX_SLOTS: u32 = 320;

/// Positions in one block of the paged KV cache. A multiple of the 32 keys that attention walks in.
pub const KV_BLOCK: u32 = 64;

/// Token counts that the mat-vec is compiled for; a batch takes the next larger one.
pub const MATVEC_TOKENS: [u32; 4] = [1, 2, 4, 8];

/// Those that it is compiled for under [`Split::Rows`]: sums of more tokens leave the registers, and cost more than what they save.
pub const MATVEC_TOKENS_BY_ROWS: [u32; 2] = [1, 2];

/// Invocations of a workgroup that the mat-vec is compiled for; an adapter uses one of them.
pub const MATVEC_WORKGROUPS: [u32; 2] = [32, 64];

/// Invocations of a workgroup and rows of the matrix that it owns, in products with one token. More invocations to a row keep more loads
/// under way, and few rows make many workgroups of a small matrix. More rows than invocations mean [`Split::Rows`]. Kernels that join two
/// rows take no single one.
pub const STEP_SHARES: [(u32, u32); 11] = [
    (32, 4),
    (8, 32),
    (64, 1),
    (64, 2),
    (64, 4),
    (128, 1),
    (128, 2),
    (128, 4),
    (256, 1),
    (256, 2),
    (256, 4),
];

/// Invocations of a workgroup that the mat-vec with integer dot products is compiled for.
pub const MATVEC_DOT_WORKGROUPS: [u32; 3] = [32, 64, 128];

/// Invocations of a workgroup of [`crate::Variant::Quantize`], with four activations each.
pub const QUANTIZE_WORKGROUP: u32 = 64;

/// Rows of the matrix that one of its workgroups owns.
pub const MATVEC_DOT_ROWS: [u32; 3] = [1, 2, 4];

/// The same where two rows are joined.
pub const PAIRS_DOT_ROWS: [u32; 2] = [2, 4];

/// The same for queries, keys and values, whose kernel has a text for each head size and cache as well.
pub const QKV_DOT_ROWS: [u32; 2] = [2, 4];

/// Rows of the matrix that a workgroup of [`crate::Variant::NormQkvRopeDot`] owns: two to a team of 32 invocations.
pub const NORM_QKV_DOT_ROWS: u32 = 16;

/// Rows of the matrix that one mat-vec workgroup owns at most, for a given token count: register use stays at 8 to 16 sums.
#[must_use]
pub const fn matvec_rows(n_tokens: u32) -> u32 {
    if n_tokens <= 2 { 4 } else { 2 }
}
