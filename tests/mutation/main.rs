//! Whether the kernel tests would notice: kernels with a fault, planted by hand or made by rule, must fail the quick tier.
//!
//! README.md has the figures, and says how to run them for one kernel.

mod child; // what a process that runs a mutant does
mod generated; // the test of faults made by rule
mod judge; // processes that run mutants
mod lexer; // WGSL as tokens
mod mutant; // a file and one change to it
mod operators; // the rules
mod planted; // the test of faults planted by hand
mod survivors; // those that are known to go unnoticed

use std::env;

use judge::Judgement;
use qwgpu_suite::Mode;

/// Whether mutants can be told apart on the adapter at hand. llvmpipe and SwiftShader run a workgroup's invocations one after the other,
/// so what a missing barrier does is certain there; on a GPU it is luck. `QWGPU_MUTATE` asks for it all the same.
fn suits() -> bool {
    let gpu = qwgpu_suite::gpu(Mode::Native).expect("there is an adapter");
    let info = gpu.info();
    let certain = ["llvmpipe", "SwiftShader"].iter().any(|name| info.name.contains(name)) && info.backend == "vulkan";
    let suits = certain || env::var_os("QWGPU_MUTATE").is_some();
    if !suits {
        println!("skipped: mutants on {}", info.label());
    }
    suits
}

/// Prints what became of a mutant.
fn tell(name: &str, judgement: &Judgement) {
    let why: String = judgement.why.chars().take(160).collect();
    println!("{:<8} {name}\n         {}", judgement.verdict, why.replace('\n', " "));
}
