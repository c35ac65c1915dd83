//! What decides whether a kernel is right: cases as data, seeded fills, tolerances, guarded outputs and a runner.
//!
//! A [`Case`] names a kernel and one shape of input; the runner executes it on the adapter as it is and again with capabilities
//! taken away ([`Mode`]), and compares outputs with the kernel's own `reference` in f64. Tolerances are computed for each element
//! from the type and the length of its sum ([`compare`]), never guessed. It prints nothing: a [`Report`] says what ran, what was
//! skipped and why, and what failed. Used by `qwgpu test` and by `tests/kernels`.
//!
//! [`mod@bench`] holds what the kernels are measured on.

pub mod bench;
pub mod cases;
pub mod compare;
pub mod fill;

mod case;
mod device;
mod guard;
mod mode;
mod plan;
mod report;
mod routing;
mod rows;
mod run;
mod select;

pub use case::{Case, Failure, Mismatch, Outcome, Scale, Tier};
pub use device::{Devices, gpu};
pub use guard::{Guarded, POISON, padded};
pub use mode::{Axis, Mode};
pub use plan::{Planned, kernels, plan};
pub use report::{CaseResult, Counts, Report, Status};
pub use run::{Event, run};
pub use select::{Selection, label};
