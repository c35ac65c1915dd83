//! A minimal tensor runtime on wgpu: adapter and device, tensors, pass recording, and one module per kernel.
//!
//! It knows no model. Everything a kernel needs to be trusted stands beside it: the formula, the shapes, and a plain-loop
//! reference that the test suite compares with. This is the only crate that names wgpu.
//!
//! - [`Gpu`]: an open device; [`Caps`]: what it can do
//! - [`Tensor`]: activations, f32 unless said otherwise; [`Matrix`]: weights in their own width
//! - [`Pass`]: a list of dispatches, submitted as one
//! - [`kernels`]: one module per kernel, same stem as its `.wgsl`
//! - [`self_test`]: known cases that an optional path must compute right before kernels use it

mod adapter;
mod buffer;
mod caps;
mod compile;
mod counts;
mod dtype;
mod error;
mod gpu;
pub mod kernels;
mod matrix;
mod pass;
pub mod philox;
mod pipeline;
mod pipeline_cache;
mod quant;
pub mod self_test;
mod tensor;
mod transfer;
mod upload;

pub use adapter::{AdapterInfo, GpuOptions, list_adapters};
pub use caps::{Caps, CoopShape, Disabled};
pub use counts::Counts;
pub use dtype::{BLOCK, DType};
pub use error::{Error, Result};
pub use gpu::{Compiled, Gpu};
pub use matrix::{Matrix, narrow, stored, widen};
pub use pass::{Pass, Submission, Tap, Timing};
pub use qwgpu_shaders::{HEAD_DIMS, KV_BLOCK, MAX_GROUP, Peak, Sources, Variant};
pub use tensor::{Elem, Tensor};
pub use transfer::Staging;
