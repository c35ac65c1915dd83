//! What decides whether a kernel is right: cases as data, seeded fills, tolerances, guarded outputs and a runner.
//!
//! A [`Case`] names a kernel and one shape of input; the runner executes it on the adapter as it is and again with capabilities
//! taken away ([`Mode`]), and compares every output with the kernel's own `reference` in f64. Tolerances are computed for each
//! element from the type and the length of its sum ([`compare`]), never guessed. It prints nothing: a [`Report`] says what ran,
//! what was skipped and why, and what failed. Used by `tests/kernels`, and by everything else that wants to trust an adapter.

pub mod cases;
pub mod compare;
pub mod fill;

mod case;
mod device;
mod guard;

pub use case::{Case, Failure, Outcome, Report, run, run_all};
pub use device::{Mode, gpu, timings};
pub use guard::{Guarded, POISON, padded};
