//! Whether the kernel tests would notice: kernels with a fault, planted by hand or made by rule, must fail the quick tier.
//!
//! README.md has the figures, and says how to run them for one kernel.

mod child; // a process for each mutant
mod generated; // the test of faults made by rule
mod lexer; // WGSL as tokens
mod mutant; // a file and one change to it
mod operators; // the rules
mod planted; // the test of faults planted by hand
mod survivors; // those that are known to go unnoticed

use std::env;

use child::Judgement;
use mutant::File;
use qwgpu_suite::Mode;

/// The two adapters that the check is made for. Their drivers run a workgroup's invocations one after the other, so what a missing
/// barrier does is certain there; on a GPU it is luck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judge {
    /// Runs everything.
    Llvmpipe,
    /// Is asked about what llvmpipe lets pass.
    SwiftShader,
}

impl Judge {
    /// The adapter at hand, if it is one of them; `QWGPU_MUTATE` lets any other stand in for SwiftShader.
    fn at_hand() -> Option<Self> {
        let gpu = qwgpu_suite::gpu(Mode::Native).expect("there is an adapter");
        let (name, backend) = (&gpu.info().name, &gpu.info().backend);
        if name.contains("llvmpipe") && backend == "vulkan" {
            Some(Self::Llvmpipe)
        } else if name.contains("SwiftShader") || env::var_os("QWGPU_MUTATE").is_some() {
            Some(Self::SwiftShader)
        } else {
            println!("skipped: mutants on {}", gpu.info().label());
            None
        }
    }
}

/// Whether the adapter can run any variant that the file is part of.
fn runs_here(file: &File) -> bool {
    let gpu = qwgpu_suite::gpu(Mode::Native).expect("there is an adapter");
    let caps = gpu.caps();
    let mut variants = file.variants.iter();
    variants.any(|variant| (caps.f16 || !variant.needs_f16()) && (caps.subgroup || !variant.needs_subgroups()))
}

/// Prints what became of a mutant.
fn tell(name: &str, judgement: &Judgement) {
    let why: String = judgement.why.chars().take(160).collect();
    println!("{:<8} {name}\n         {}", judgement.verdict, why.replace('\n', " "));
}
