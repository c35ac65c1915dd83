//! The weight matrices of the Qwen2 family, as the runtime stacks them.

use qwgpu_runtime::DType;

use crate::{Case, Scale};

/// What of a model decides its shapes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Model {
    /// Its size, as its name has it.
    pub(super) name: &'static str,
    /// Width of the residual stream.
    pub(super) d_model: usize,
    /// Inner widths of its feed-forward networks: one, or those of an expert and of the shared expert.
    pub(super) d_ff: &'static [usize],
    n_heads: usize,
    n_kv_heads: usize,
    head_dim: usize,
    pub(super) vocab: usize,
}

const fn model(name: &'static str, d_model: usize, d_ff: &'static [usize], heads: [usize; 3], vocab: usize) -> Model {
    let [n_heads, n_kv_heads, head_dim] = heads;
    Model {
        name,
        d_model,
        d_ff,
        n_heads,
        n_kv_heads,
        head_dim,
        vocab,
    }
}

/// Qwen2 and Qwen2.5, all sizes.
pub(super) const MODELS: [Model; 8] = [
    model("0.5B", 896, &[4864], [14, 2, 64], 151_936),
    model("1.5B", 1536, &[8960], [12, 2, 128], 151_936),
    model("3B", 2048, &[11008], [16, 2, 128], 151_936),
    model("7B", 3584, &[18944], [28, 4, 128], 152_064),
    model("57B-A14B", 3584, &[2560, 20480], [28, 4, 128], 151_936),
    model("14B", 5120, &[13824], [40, 8, 128], 152_064),
    model("32B", 5120, &[27648], [40, 8, 128], 152_064),
    model("72B", 8192, &[29568], [64, 8, 128], 152_064),
];

/// One matrix of one model.
#[derive(Clone, Debug)]
pub(super) struct Weights {
    /// Whose it is and what it does.
    pub(super) name: String,
    /// Outputs.
    pub(super) rows: usize,
    /// Inputs.
    pub(super) cols: usize,
}

impl Weights {
    /// Whether it takes 2.5 GB at most, as every one does in half precision.
    pub(super) const fn fits(&self, dtype: DType) -> bool {
        dtype.row_bytes(self.rows * self.cols) as u64 <= 2_500_000_000
    }

    /// A case with this matrix's name before its own.
    pub(super) fn named(&self, mut case: Case) -> Case {
        case.name = format!("{}, {}", self.name, case.name);
        case
    }
}

/// Every matrix of the family once. `Scale::Cut` leaves two tiles of `tile` rows and a tail, each matrix of a model another one.
pub(super) fn matrices(scale: Scale, tile: usize) -> Vec<Weights> {
    let mut all: Vec<Weights> = Vec::new();
    for model in MODELS {
        let Model { d_model, head_dim, .. } = model;
        let mut matrices = vec![
            ("qkv", (model.n_heads + 2 * model.n_kv_heads) * head_dim, d_model),
            ("output", d_model, model.n_heads * head_dim),
            ("head", model.vocab, d_model),
        ];
        for &d_ff in model.d_ff {
            matrices.push(("gate and up", 2 * d_ff, d_model));
            matrices.push(("down", d_model, d_ff));
        }
        for (i, (what, rows, cols)) in matrices.into_iter().enumerate() {
            let tail = 1 + 3 * i * tile.div_ceil(16) % tile.max(16);
            let rows = if scale == Scale::Real { rows } else { 2 * tile + tail };
            if !all.iter().any(|other| (other.rows, other.cols) == (rows, cols)) {
                let name = format!("{} {what}", model.name);
                all.push(Weights { name, rows, cols });
            }
        }
    }
    all
}
