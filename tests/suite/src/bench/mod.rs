//! What `cargo bench` and `qwgpu bench kernels` measure: every kernel on the shapes of real models, one file per kernel, and the
//! adapter's own ceilings to compare with.
//!
//! A [`BenchCase`] counts the traffic that no kernel can avoid, each input read once and each output written once, and the
//! operations of the definition. By default caches are cold: a case's dispatches go round [`Bencher::COLD_BYTES`] of copies.

mod argmax;
mod attention;
mod attention_decode;
mod attention_decode_coop;
mod attention_merge;
mod attention_prefill;
mod attention_prefill_coop;
mod attention_short;
mod ceilings;
mod combine_experts;
mod data;
mod embed;
mod embed_step;
mod experts;
mod experts_down;
mod experts_down_dot;
mod experts_gate_up;
mod experts_gate_up_dot;
mod fill_random;
mod gate_up_bytes;
mod gate_up_dot;
mod group_experts;
mod matmul;
mod matmul_coop;
mod matmul_experts;
mod matmul_experts_coop;
mod matvec;
mod matvec_dot;
mod norm_gate_up;
mod norm_qkv_rope;
mod norm_qkv_rope_dot;
mod norm_quantize;
mod norm_to_f16;
mod penalty;
mod qkv_rope_dot;
mod quantize;
mod rms_norm;
mod rope;
mod router;
mod router_decode;
mod runner;
mod sample;
mod shapes;
mod silu_mul;
mod silu_mul_to_f16;
mod to_f16;
mod topk;

use std::{fmt, sync::Arc};

use qwgpu_runtime::{Gpu, Pass, Result};

pub use ceilings::{CeilingKind, Measured, ceilings};
pub use runner::{Bencher, Loaded, Samples};

/// Records one dispatch on the copy with this number.
pub type Record = Box<dyn Fn(&mut Pass<'_>, usize)>;

type Prepare = Box<dyn Fn(&Arc<Gpu>, usize) -> Result<Record>>;

/// One kernel on one shape.
pub struct BenchCase {
    /// The kernel's stem.
    pub kernel: &'static str,
    /// Model, operation, type and shape; unique for its kernel.
    pub name: String,
    /// Bytes that have to be read or written.
    pub bytes: u64,
    /// f32 operations of the definition; a multiply-add is two.
    pub flops: u64,
    /// Copies of the data at most: each takes a bind group, and some take more memory than is read of them.
    max_copies: usize,
    prepare: Prepare,
}

impl fmt::Debug for BenchCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kernel, self.name)
    }
}

impl BenchCase {
    fn new(
        kernel: &'static str,
        name: String,
        (bytes, flops): (usize, usize),
        prepare: impl Fn(&Arc<Gpu>, usize) -> Result<Record> + 'static,
    ) -> Self {
        Self {
            kernel,
            name,
            bytes: bytes as u64,
            flops: flops as u64,
            max_copies: 1024,
            prepare: Box::new(prepare),
        }
    }

    /// The shortest time in seconds that the ceilings allow: bytes per second, and operations per second.
    #[must_use]
    pub fn floor(&self, read: f64, f32: f64) -> f64 {
        (self.bytes as f64 / read).max(self.flops as f64 / f32)
    }

    /// Whether reading takes longer than computing at these ceilings.
    #[must_use]
    pub fn reads(&self, read: f64, f32: f64) -> bool {
        self.bytes as f64 / read >= self.flops as f64 / f32
    }
}

/// The kernels that have cases, by stem.
pub const KERNELS: [&str; 41] = [
    "argmax",
    "attention_decode",
    "attention_decode_coop",
    "attention_merge",
    "attention_prefill",
    "attention_prefill_coop",
    "attention_short",
    "combine_experts",
    "embed",
    "embed_step",
    "experts_down",
    "experts_down_dot",
    "experts_gate_up",
    "experts_gate_up_dot",
    "fill_random",
    "gate_up_bytes",
    "gate_up_dot",
    "group_experts",
    "matmul",
    "matmul_coop",
    "matmul_experts",
    "matmul_experts_coop",
    "matvec",
    "norm_gate_up",
    "norm_qkv_rope",
    "norm_qkv_rope_dot",
    "norm_quantize",
    "norm_to_f16",
    "matvec_dot",
    "penalty",
    "qkv_rope_dot",
    "quantize",
    "rms_norm",
    "rope",
    "router",
    "router_decode",
    "sample",
    "silu_mul",
    "silu_mul_to_f16",
    "to_f16",
    "topk",
];

/// All cases of a kernel; CPU drivers get cut shapes.
///
/// # Panics
/// For a name that is not in [`KERNELS`].
#[must_use]
pub fn cases(gpu: &Gpu, kernel: &str) -> Vec<BenchCase> {
    match kernel {
        "argmax" => argmax::cases(),
        "attention_decode" => attention_decode::cases(gpu),
        "attention_decode_coop" => attention_decode_coop::cases(gpu),
        "attention_merge" => attention_merge::cases(gpu),
        "attention_prefill" => attention_prefill::cases(gpu),
        "attention_short" => attention_short::cases(gpu),
        "attention_prefill_coop" => attention_prefill_coop::cases(gpu),
        "combine_experts" => combine_experts::cases(gpu),
        "embed" => embed::cases(gpu),
        "embed_step" => embed_step::cases(gpu),
        "experts_down" => experts_down::cases(gpu),
        "experts_down_dot" => experts_down_dot::cases(gpu),
        "experts_gate_up" => experts_gate_up::cases(gpu),
        "experts_gate_up_dot" => experts_gate_up_dot::cases(gpu),
        "fill_random" => fill_random::cases(gpu),
        "gate_up_bytes" => gate_up_bytes::cases(gpu),
        "gate_up_dot" => gate_up_dot::cases(gpu),
        "group_experts" => group_experts::cases(gpu),
        "matmul" => matmul::cases(gpu),
        "matmul_coop" => matmul_coop::cases(gpu),
        "matmul_experts" => matmul_experts::cases(gpu),
        "matmul_experts_coop" => matmul_experts_coop::cases(gpu),
        "matvec" => matvec::cases(gpu),
        "norm_gate_up" => norm_gate_up::cases(gpu),
        "norm_qkv_rope" => norm_qkv_rope::cases(gpu),
        "norm_qkv_rope_dot" => norm_qkv_rope_dot::cases(gpu),
        "norm_quantize" => norm_quantize::cases(gpu),
        "norm_to_f16" => norm_to_f16::cases(gpu),
        "matvec_dot" => matvec_dot::cases(gpu),
        "penalty" => penalty::cases(),
        "qkv_rope_dot" => qkv_rope_dot::cases(gpu),
        "quantize" => quantize::cases(gpu),
        "rms_norm" => rms_norm::cases(gpu),
        "rope" => rope::cases(gpu),
        "router" => router::cases(gpu),
        "router_decode" => router_decode::cases(),
        "sample" => sample::cases(),
        "silu_mul" => silu_mul::cases(gpu),
        "silu_mul_to_f16" => silu_mul_to_f16::cases(gpu),
        "to_f16" => to_f16::cases(gpu),
        "topk" => topk::cases(),
        _ => panic!("there is no kernel {kernel}"),
    }
}
