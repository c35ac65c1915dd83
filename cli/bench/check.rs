//! `qwgpu bench --check`: recompute what the adapter computed, in f64, before any figure is believed.

use std::sync::Arc;

use anyhow::{Result, bail};
use qwgpu_model::check::{self, Checked};
use qwgpu_model::{Model, Session};

use crate::output::grouped;
use crate::sampling::hash;

/// Sampled outputs of every operation.
const N_SAMPLES: usize = 64;
/// Tokens of the two prompts: the first takes the kernels of prefill, the second those of decode.
const PROMPTS: [usize; 2] = [40, 5];
/// Tokens before and with the step that is checked: it stands in the second block of the cache.
const STEP: usize = 70;
/// Models of at most this many layers are also run end to end in f64; more would take minutes.
const MAX_LAYERS: usize = 2;

/// Checks the kernels of prompts and of a step; says on standard error what was compared, and fails if anything is off.
///
/// # Errors
/// When an operation is outside of what rounding explains, naming the worst.
pub(super) fn run(model: &Arc<Model>, seed: u32) -> Result<()> {
    let mut session = Session::sized(model, STEP, PROMPTS[0])?;
    let mut all: Vec<Checked> = Vec::new();
    let n_valid = model.n_valid() as u64;
    let ids: Vec<u32> = (0..session.ctx() as u64).map(|i| (hash(seed.into(), i) % n_valid) as u32).collect();
    all.extend(check::step_operations(&mut session, &ids, N_SAMPLES)?);
    for n_tokens in PROMPTS {
        let ids = &ids[..n_tokens.min(session.ctx())];
        all.extend(check::operations(&mut session, ids, N_SAMPLES)?);
        if model.config().n_layers <= MAX_LAYERS {
            all.push(check::end_to_end(&mut session, ids)?);
        }
    }
    let failed: Vec<&Checked> = all.iter().filter(|checked| !checked.passed()).collect();
    for checked in &failed {
        eprintln!(
            "check: {} in layer {} is off by {:.3} tolerances",
            checked.operation, checked.layer, checked.worst
        );
    }
    let n_samples: usize = all.iter().map(|checked| checked.n_samples).sum();
    let Some(worst) = all.iter().max_by(|a, b| a.worst.total_cmp(&b.worst)) else {
        bail!("nothing was checked")
    };
    if !failed.is_empty() {
        bail!("{} of {} checked operations are wrong on this adapter", failed.len(), all.len());
    }
    eprintln!(
        "check: {} outputs of {} operations agree with f64; the worst, {} in layer {}, took {:.2} of its tolerance{}",
        grouped(n_samples as u64),
        all.len(),
        worst.operation,
        worst.layer,
        worst.worst,
        if model.config().n_layers <= MAX_LAYERS {
            "; end to end included"
        } else {
            ""
        },
    );
    Ok(())
}
