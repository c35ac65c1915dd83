//! `qwgpu bench`: prefill and decode speed by llama-bench's protocol, so that figures can be compared with its.
//!
//! Tokens are random and chosen greedily on the GPU: what is measured is the model. Wall-clock time is taken around work that
//! has been waited for.

mod check;
mod compare;
mod kernels;
mod profile;
mod report;
mod roofline;
mod statistics;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use indicatif::ProgressBar;
use qwgpu_model::config::Config;
use qwgpu_model::sampler::SamplerConfig;
use qwgpu_model::{Error, GenerateOptions, Model, Session};

use crate::args::{BenchArgs, BenchCommand};
use crate::interrupt::{self, Guard};
use crate::model_args::counting_bar;
use crate::output::Interrupted;
use crate::sampling::hash;
use report::Report;

/// Beyond any context, and far below what a sum of two could overflow.
const MAX_TOKENS: usize = 1 << 24;

/// Work before the first timed run on a GPU.
const WARM_UP: Duration = Duration::from_secs(1);

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Test {
    /// Tokens to read; 0 when it makes tokens.
    n_prompt: usize,
    /// Tokens to make; 0 when it reads.
    n_gen: usize,
    /// Tokens before that.
    depth: usize,
}

impl Test {
    /// llama-bench's name for it.
    fn name(self) -> String {
        let what = if self.n_gen == 0 {
            format!("pp{}", self.n_prompt)
        } else {
            format!("tg{}", self.n_gen)
        };
        if self.depth == 0 {
            what
        } else {
            format!("{what} @ d{}", self.depth)
        }
    }

    /// Tokens that are timed.
    fn n_tokens(self) -> usize {
        self.n_prompt + self.n_gen
    }

    fn ctx(self) -> usize {
        self.depth + self.n_tokens()
    }
}

/// Runs the command.
///
/// # Errors
/// One sentence for the user.
pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    if let Some(BenchCommand::Kernels(args)) = &args.command {
        return kernels::run(args);
    }
    if let Some(files) = &args.compare {
        return compare::run(&files[0], &files[1]);
    }
    let tests = tests(args)?;
    // A generated token goes into the cache with the next one, so one place more is never too few.
    let needed = tests.iter().map(|test| test.ctx()).max().unwrap_or(0);
    // A prefill step is never longer than the context, and -b should hold in short tests too.
    let (model, name) = model(args, (needed + 1).max(args.model.batch))?;
    if needed > model.ctx() {
        return Err(Error::ContextFull { needed, ctx: model.ctx() }.into());
    }
    if args.check {
        check::run(&model, args.seed)?;
    }
    let mut session = Session::new(&model)?;
    let mut report = Report::new(args, &model, name);
    let bar = counting_bar(tests.len() * (args.repetitions + 1), "bench");
    let guard = Guard::new();
    for test in tests {
        bar.set_message(test.name());
        let samples = measure(&mut session, test, args, &bar)?;
        bar.suspend(|| report.add(test, &samples))?;
        if args.profile {
            let ids = ids(&session, test, args.seed);
            let text = profile::of(&mut session, test, &ids)?;
            bar.suspend(|| eprint!("{text}"));
        }
    }
    drop(guard);
    bar.finish_and_clear();
    report.finish()
}

/// The tests in the order of llama-bench: for each depth the prompts, then the generations.
fn tests(args: &BenchArgs) -> Result<Vec<Test>> {
    let lists = [("-p", &args.n_prompt), ("-n", &args.n_gen), ("-d", &args.n_depth)];
    for (option, list) in lists {
        if let Some(value) = list.iter().find(|&&n| n > MAX_TOKENS) {
            let reason = format!("at most {MAX_TOKENS} tokens make sense");
            return Err(Error::Option {
                option: option.into(),
                value: value.to_string(),
                reason,
            }
            .into());
        }
    }
    if args.repetitions == 0 {
        let reason = "at least one run has to be timed".into();
        return Err(Error::Option {
            option: "-r".into(),
            value: "0".into(),
            reason,
        }
        .into());
    }
    let mut tests = Vec::new();
    for &depth in &args.n_depth {
        let prompts = args.n_prompt.iter().map(|&n_prompt| Test { n_prompt, n_gen: 0, depth });
        let generations = args.n_gen.iter().map(|&n_gen| Test { n_prompt: 0, n_gen, depth });
        tests.extend(prompts.chain(generations).filter(|test| test.n_tokens() > 0));
    }
    if tests.is_empty() {
        bail!("there is nothing to measure: -p and -n are both 0");
    }
    Ok(tests)
}

/// The model to measure and what to call it.
fn model(args: &BenchArgs, ctx: usize) -> Result<(Arc<Model>, String)> {
    let Some(shape) = &args.shape else {
        let checkpoint = args.model.checkpoint()?;
        // The place more is not worth a refusal where the model ends just there.
        let loaded = args.model.load(&checkpoint, Some(ctx.min(checkpoint.config().max_ctx())))?;
        let name = loaded.model.name().to_owned();
        return Ok((loaded.model, name));
    };
    let Some(mut config) = Config::preset(shape) else {
        bail!("there is no shape {shape}; there are {}", Config::PRESETS.join(", "));
    };
    let mut name = format!("{shape} random");
    if let Some(n_layers) = args.layers {
        if n_layers == 0 || n_layers > config.n_layers {
            let reason = format!("the shape {shape} has 1 to {} layers to take", config.n_layers);
            return Err(Error::Option {
                option: "--layers".into(),
                value: n_layers.to_string(),
                reason,
            }
            .into());
        }
        name += &format!(", {n_layers} of {} layers", config.n_layers);
        config.n_layers = n_layers;
        config.windows.truncate(n_layers);
        if let Some(moe) = &mut config.moe {
            moe.sparse.truncate(n_layers);
        }
    }
    let ctx = ctx.min(config.max_ctx());
    let gpu = args.model.gpu()?;
    Ok((Model::random(&gpu, config, &args.model.options(Some(ctx)), args.seed)?, name))
}

/// Random tokens for a test, depth included.
fn ids(session: &Session, test: Test, seed: u32) -> Vec<u32> {
    let vocab_size = session.model().n_valid() as u64;
    let id = |i: usize| (hash(seed.into(), i as u64) % vocab_size) as u32;
    (0..test.ctx().max(test.depth + 1)).map(id).collect()
}

/// Warms up, then times every repetition.
fn measure(session: &mut Session, test: Test, args: &BenchArgs, bar: &ProgressBar) -> Result<Vec<Duration>> {
    let ids = ids(session, test, args.seed);
    let common = session.ids().iter().zip(&ids[..test.depth]).take_while(|(a, b)| a == b).count();
    session.rewind(common);
    if common < test.depth {
        session.feed(&ids[common..test.depth])?;
    }
    let mut samples = Vec::with_capacity(args.repetitions);
    for i in 0..=args.repetitions {
        if interrupt::asked() {
            return Err(Interrupted("while measuring").into());
        }
        let time = once(session, test, &ids)?;
        if i > 0 {
            samples.push(time);
            bar.inc(1);
            continue;
        }
        // an idle GPU clocks down, and takes about a second of work to come back
        let warm = Instant::now();
        while !session.model().gpu().caps().cpu && warm.elapsed() < WARM_UP && !interrupt::asked() {
            once(session, test, &ids)?;
        }
        bar.inc(1);
    }
    Ok(samples)
}

/// One run, from a cache of `test.depth` tokens.
fn once(session: &mut Session, test: Test, ids: &[u32]) -> Result<Duration> {
    session.rewind(test.depth);
    let gpu = session.model().gpu().clone();
    gpu.wait()?;
    let started = Instant::now();
    if test.n_gen == 0 {
        session.feed(&ids[test.depth..test.ctx()])?;
    } else {
        // Every one of the n_gen tokens takes one forward pass over one token, the first one's included.
        let options = GenerateOptions {
            sampler: SamplerConfig::greedy(),
            max_tokens: test.n_gen,
            stop_ids: Vec::new(),
        };
        let mut made = 0;
        for id in session.generate(&ids[..=test.depth], &options)? {
            id?;
            made += 1;
        }
        assert_eq!(
            made, test.n_gen,
            "nothing ends a generation without stop ids in a context that is large enough"
        );
    }
    gpu.wait()?;
    Ok(started.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_llama_bench() {
        assert_eq!(
            Test {
                n_prompt: 512,
                n_gen: 0,
                depth: 0
            }
            .name(),
            "pp512"
        );
        assert_eq!(
            Test {
                n_prompt: 0,
                n_gen: 128,
                depth: 8192
            }
            .name(),
            "tg128 @ d8192"
        );
    }
}
