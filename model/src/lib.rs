//! Qwen2 on the qwgpu runtime: checkpoints, tokenizer, forward pass, sampling and sessions.
//!
//! This crate names no GPU API: everything below a tensor is `qwgpu-runtime`'s business. To read it, start at `qwen2.rs`.
//!
//! ```no_run
//! use qwgpu_model::{GenerateOptions, LoadOptions, Model, Session, demo, sampler::SamplerConfig, tokenizer::StreamDecoder};
//! use qwgpu_runtime::{Gpu, GpuOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let gpu = Gpu::open(&GpuOptions::from_env()?)?;
//! let model = Model::load(&gpu, &demo::checkpoint()?, &LoadOptions::default(), &mut |_done, _total| true)?;
//! let tokenizer = model.tokenizer().ok_or("the checkpoint has no tokenizer.json")?;
//! let mut session = Session::new(&model)?;
//! let options = GenerateOptions {
//!     sampler: SamplerConfig::greedy(),
//!     max_tokens: 64,
//!     stop_ids: model.stop_ids().to_vec(),
//! };
//! let cancel = session.cancel_handle(); // another thread may call cancel.cancel()
//! let prompt = tokenizer.encode("Once upon a time, there was a little fox named Tim.")?;
//! let mut text = StreamDecoder::new();
//! for id in session.generate(&prompt, &options)? {
//!     print!("{}", text.push(tokenizer, id?));
//! }
//! println!("{}", text.finish());
//! # drop(cancel);
//! # Ok(())
//! # }
//! ```

mod activations;
pub mod chat;
pub mod check;
pub mod checkpoint;
mod choose;
pub mod config;
mod decode;
pub mod demo;
pub mod error;
mod generate;
mod kv_cache;
mod load;
mod moe;
mod plan;
mod qwen2;
pub mod rope;
pub mod sampler;
mod session;
pub mod tokenizer;
mod weights;

pub use error::{Error, Result};
pub use generate::{GenerateOptions, Stats, StopReason, Tokens};
pub use load::{LoadOptions, Model, Upload};
pub use plan::MemoryPlan;
pub use session::{CancelHandle, Session, Trace};
