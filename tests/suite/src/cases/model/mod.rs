//! Whole models: checkpoints embedded in the binary must give the logits and tokens that transformers gives.
//!
//! Tolerances are those of `tests/parity`, for the same reasons: in f32, 1e-3 of the largest logit, ten times what rounding does and a
//! tenth of what the smallest mistake does; with keys and values in f16, or operands on matrix units, 0.3.

mod golden;

use std::sync::Arc;

use qwgpu_model::{GenerateOptions, LoadOptions, Model, Session, demo, sampler::SamplerConfig};
use qwgpu_runtime::{
    DType, Elem, Gpu,
    kernels::{matmul_coop, matvec},
};

use super::Checked;
use crate::{
    Axis, Case, Failure,
    compare::{self, Comparison, Expected},
};
use golden::{Files, GOLDENS, ids};

const AXES: &[Axis] = &[Axis::Subgroup, Axis::Coop];
/// Of the largest golden logit.
const F32_TOLERANCE: f64 = 1e-3;
/// Absolute.
const F16_TOLERANCE: f64 = 0.3;
/// How far a golden token of the demo model may be behind the best one: some were chosen by less than 0.01.
const MARGIN: f64 = 0.02;
const DEMO_GOLDEN: &str = include_str!("../../../../../model/demo/golden.json");

#[derive(Clone, Copy)]
struct Setting {
    /// `None`: as the checkpoint has them.
    dtype: Option<DType>,
    kv: Elem,
    /// Tokens of a prefill step: 1 is decode all the way.
    batch: usize,
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for files in GOLDENS {
        for (dtype, kv, batch) in [
            (None, Elem::F32, 512),
            (None, Elem::F32, 1),
            (None, Elem::F32, 7),
            (Some(DType::F32), Elem::F32, 512),
            (Some(DType::F32), Elem::F32, 5),
            (Some(DType::F16), Elem::F32, 512),
            (None, Elem::F16, 512),
            (None, Elem::F16, 1),
            (Some(DType::F16), Elem::F16, 13),
        ] {
            let weights = dtype.map_or("its own", DType::name);
            let name = format!("{}, weights {weights}, cache {kv:?}, {batch} at a time", files.name);
            let setting = Setting { dtype, kv, batch };
            let case = Case::new("model", name, move |gpu| check(gpu, files, setting));
            // not in the quick tier: their attention takes CPU drivers 18 s to compile
            cases.push(case.over(AXES).with_f16(kv == Elem::F16));
        }
    }
    for kv in [Elem::F32, Elem::F16] {
        for prompt in 0..6 {
            let name = format!("demo, story {prompt}, cache {kv:?}");
            let case = Case::new("model", name, move |gpu| check_demo(gpu, prompt, kv));
            cases.push(case.over(AXES).with_f16(kv == Elem::F16));
        }
    }
    cases
}

fn failed(error: qwgpu_model::Error) -> Failure {
    Failure::new(error.to_string())
}

/// Logits of every position, `[n_tokens, vocab_size]`.
fn all_logits(model: &Arc<Model>, ids: &[u32]) -> Result<Vec<f32>, Failure> {
    let mut logits = Vec::new();
    let mut session = Session::new(model).map_err(failed)?;
    session
        .feed_all_logits(ids, &mut |_, rows| logits.extend_from_slice(rows))
        .map_err(failed)?;
    Ok(logits)
}

fn check(gpu: &Arc<Gpu>, files: &Files, setting: Setting) -> Checked {
    let golden = files.open()?;
    let options = LoadOptions {
        dtype: setting.dtype,
        kv: Some(setting.kv),
        batch: setting.batch,
        ..LoadOptions::default()
    };
    let model = Model::load(gpu, &golden.checkpoint, &options, &mut |_, _| true).map_err(failed)?;
    let sequence = [golden.prompt.as_slice(), &golden.generated].concat();
    let got = all_logits(&model, &sequence)?;
    let largest = golden.logits.iter().fold(0.0, |largest: f64, x| largest.max(f64::from(x.abs())));
    let on_matrix_units = setting.batch > matvec::MAX_TOKENS && !matmul_coop::grids(gpu.caps()).is_empty();
    let bound = if setting.kv == Elem::F16 || on_matrix_units {
        F16_TOLERANCE
    } else {
        F32_TOLERANCE * largest
    };
    let expected = golden.logits.iter().map(|&x| Expected {
        value: f64::from(x),
        bound,
    });
    let outcome = compare::elements("logits", model.config().vocab_size, &got, expected)?;
    let greedy = GenerateOptions {
        sampler: SamplerConfig::greedy(),
        max_tokens: golden.generated.len(),
        stop_ids: Vec::new(),
    };
    let mut session = Session::new(&model).map_err(failed)?;
    let tokens = session.generate(&golden.prompt, &greedy).map_err(failed)?;
    let tokens: Vec<u32> = tokens.collect::<Result<_, _>>().map_err(failed)?;
    Ok(outcome.and(compare::exact("greedy tokens", tokens.len().max(1), &tokens, &golden.generated)?))
}

/// Feeds a golden story and asks at every position whether its token is the best, or as good as the best.
fn check_demo(gpu: &Arc<Gpu>, prompt: usize, kv: Elem) -> Checked {
    let golden: serde_json::Value = serde_json::from_str(DEMO_GOLDEN).map_err(|error| Failure::new(error.to_string()))?;
    let case = &golden["prompts"][prompt];
    let (prompt, continuation) = (ids(&case["prompt_ids"]), ids(&case["greedy_ids"]));
    let options = LoadOptions {
        kv: Some(kv),
        ..LoadOptions::default()
    };
    let model = Model::load(gpu, &demo::checkpoint().map_err(failed)?, &options, &mut |_, _| true).map_err(failed)?;
    let logits = all_logits(&model, &[prompt.as_slice(), &continuation].concat())?;
    let vocab_size = model.config().vocab_size;
    // half precision moves each of two logits
    let bound = if kv == Elem::F16 { 3.0 * MARGIN } else { MARGIN };
    let mut comparison = Comparison::new("golden token behind the best", 1);
    let rows = logits.chunks_exact(vocab_size).skip(prompt.len().saturating_sub(1));
    for (step, (row, id)) in rows.zip(&continuation).enumerate() {
        let best = row.iter().copied().fold(f32::MIN, f32::max);
        comparison.add(step, best - row[*id as usize], Expected { value: 0.0, bound });
    }
    comparison.finish()
}
