//! Parity: the same numbers and the same tokens as Hugging Face transformers, on whatever adapter runs.
//!
//! Small random checkpoints with golden logits, hidden states and greedy tokens (`tests/golden`) say whether every part of the
//! forward pass is right; the demo model and, in the slow tier, a real 135M model say whether it stays right over 30 layers and
//! thousands of tokens. Cases that are too big for the repository are read from `../shared` and listed as skipped without it.
//!
//! `QWGPU_TEST_ADAPTER` chooses the adapter by index or part of its name, `QWGPU_SLOW=1` adds the slow tier, and
//! `-- --nocapture` shows the error of every comparison.

mod chunks;
mod compare;
mod demo;
mod dense;
mod golden;
mod moe;
mod quantised;
mod sessions;
mod smollm2;
mod support;
