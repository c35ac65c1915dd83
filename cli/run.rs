//! `qwgpu run`: one prompt and its answer. Without a prompt on a terminal it is a chat, see `chat.rs`.

use std::io::{self, IsTerminal, Read};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use qwgpu_model::chat::Message;
use qwgpu_model::sampler::SamplerConfig;
use qwgpu_model::tokenizer::StreamDecoder;
use qwgpu_model::{Error, GenerateOptions, Model, Session, Stats, StopReason};
use serde::Serialize;

use crate::args::RunArgs;
use crate::chat;
use crate::expert_stats;
use crate::interrupt::Guard;
use crate::model_args::Loaded;
use crate::output::{Interrupted, JSON_VERSION, Usage, human_bytes, print, print_json};

/// More than any context holds; beyond it a pipe is a mistake.
const MAX_STDIN: u64 = 64 << 20;

/// Where the prompt comes from.
enum Prompt {
    Ids(Vec<u32>),
    Text(String),
    Chat,
}

/// One finished answer.
pub(crate) struct Answer {
    /// The tokens.
    pub(crate) ids: Vec<u32>,
    /// Their text; `None` without a tokenizer.
    pub(crate) text: Option<String>,
    /// Why it ended.
    pub(crate) stop: StopReason,
    /// Counts and times.
    pub(crate) stats: Stats,
}

/// Runs the command.
///
/// # Errors
/// One sentence for the user.
pub(crate) fn run(args: &RunArgs) -> Result<()> {
    let prompt = prompt(args, io::stdin().is_terminal())?;
    let checkpoint = args.model.checkpoint()?;
    // Before the load, which can take minutes.
    let sampler = args.sampling.config(checkpoint.generation())?;
    let loaded = args.model.load(&checkpoint, None)?;
    let ids = match prompt {
        Prompt::Chat => return chat::run(args, &loaded, sampler),
        Prompt::Ids(ids) => ids,
        Prompt::Text(text) => encode(args, &loaded.model, &text)?,
    };
    let options = options(args, &loaded.model, sampler);
    let mut session = Session::new(&loaded.model)?;
    let mut print_text = |text: &str| if args.json { Ok(()) } else { print(text) };
    let answer = answer(&mut session, &ids, &options, &mut print_text)?;
    let expert_usage = if args.expert_stats { session.expert_usage()? } else { Vec::new() };
    if args.json {
        print_json(&Report {
            expert_usage: args.expert_stats.then_some(&expert_usage),
            ..Report::new(&loaded, &ids, &answer, &options.sampler)
        })?;
    } else {
        print("\n")?;
        if args.expert_stats {
            eprint!("{}", expert_stats::text(&expert_usage));
        }
    }
    if args.stats {
        eprint!("{}", stats_text(&loaded, &answer.stats, answer.stop, &options.sampler));
    }
    if answer.stop == StopReason::Cancelled {
        Err(Interrupted("while answering").into())
    } else {
        Ok(())
    }
}

/// What to do, given whether somebody sits at a terminal and could type.
fn prompt(args: &RunArgs, at_terminal: bool) -> Result<Prompt> {
    let text = match (&args.ids, &args.prompt) {
        (Some(ids), _) => return Ok(Prompt::Ids(ids.clone())),
        (None, Some(text)) => text.clone(),
        (None, None) if !at_terminal => piped()?,
        (None, None) => {
            let needs = [("--json", args.json), ("--expert-stats", args.expert_stats)];
            return match needs.iter().find(|(_, given)| *given) {
                Some((option, _)) => Err(Usage(format!("{option} needs a prompt: as an argument, from a pipe, or with --ids")).into()),
                None => Ok(Prompt::Chat),
            };
        }
    };
    if text.trim().is_empty() {
        bail!("the prompt is empty; give some text as an argument or through a pipe");
    }
    Ok(Prompt::Text(text))
}

/// Standard input to its end, without the line break that `echo` adds.
fn piped() -> Result<String> {
    let mut bytes = Vec::new();
    io::stdin()
        .lock()
        .take(MAX_STDIN + 1)
        .read_to_end(&mut bytes)
        .context("cannot read the prompt from standard input")?;
    if bytes.len() as u64 > MAX_STDIN {
        bail!("standard input has more than {}; that fits no context", human_bytes(MAX_STDIN));
    }
    let mut text = String::from_utf8(bytes).map_err(|_| anyhow::anyhow!("standard input is not UTF-8 text"))?;
    if text.ends_with('\n') {
        text.truncate(text.len() - 1 - usize::from(text.ends_with("\r\n")));
    }
    Ok(text)
}

fn encode(args: &RunArgs, model: &Model, text: &str) -> Result<Vec<u32>> {
    let Some(tokenizer) = model.tokenizer() else {
        bail!(
            "{} has no tokenizer.json, so it cannot read text; give token ids with --ids",
            model.name()
        );
    };
    let rendered = match (model.template(), &args.system) {
        (Some(template), system) if !args.raw => {
            let mut messages: Vec<Message> = system.iter().map(|system| Message::new("system", system)).collect();
            messages.push(Message::new("user", text));
            template.render(&messages, true)?
        }
        (None, Some(_)) => bail!(
            "{} has no chat template, so --system means nothing to it; put the text into the prompt",
            model.name()
        ),
        _ => text.to_owned(),
    };
    Ok(tokenizer.encode(&rendered)?)
}

/// What to generate with, the model's own limits where the user gives none.
pub(crate) fn options(args: &RunArgs, model: &Model, sampler: SamplerConfig) -> GenerateOptions {
    let max_tokens = args.max_tokens.or(model.generation().max_new_tokens).unwrap_or(usize::MAX);
    GenerateOptions {
        sampler,
        max_tokens,
        stop_ids: model.stop_ids().to_vec(),
    }
}

/// Generates one answer and hands its text on as it is made; Ctrl-C ends it early.
///
/// # Errors
/// Those of the session, and those of `each`.
pub(crate) fn answer(
    session: &mut Session,
    prompt: &[u32],
    options: &GenerateOptions,
    each: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<Answer> {
    let model = session.model().clone();
    let _guard = Guard::cancelling(session.cancel_handle());
    let mut decoder = StreamDecoder::new();
    let (mut ids, mut text) = (Vec::new(), String::new());
    let mut tokens = session.generate(prompt, options)?;
    for id in tokens.by_ref() {
        let id = id?;
        let piece = match model.tokenizer() {
            Some(tokenizer) => decoder.push(tokenizer, id),
            None if ids.is_empty() => id.to_string(),
            None => format!(",{id}"),
        };
        ids.push(id);
        text.push_str(&piece);
        if !piece.is_empty() {
            each(&piece)?;
        }
    }
    let rest = decoder.finish();
    if !rest.is_empty() {
        text.push_str(&rest);
        each(&rest)?;
    }
    let stop = tokens.stop_reason().unwrap_or(StopReason::Cancelled);
    Ok(Answer {
        ids,
        text: model.tokenizer().map(|_| text),
        stop,
        stats: tokens.stats(),
    })
}

/// The object that `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    version: u32,
    model: &'a str,
    adapter: String,
    prompt_ids: &'a [u32],
    ids: &'a [u32],
    text: Option<&'a str>,
    stop_reason: &'static str,
    seed: u64,
    timings: Timings,
    /// Sparse layers and how often each of their experts was chosen, with `--expert-stats`.
    #[serde(skip_serializing_if = "Option::is_none")]
    expert_usage: Option<&'a Vec<(usize, Vec<u32>)>>,
}

#[derive(Serialize)]
struct Timings {
    load_ms: f64,
    prefill_ms: f64,
    first_token_ms: f64,
    decode_ms: f64,
    prefill_tokens_per_s: Option<f64>,
    decode_tokens_per_s: Option<f64>,
}

impl<'a> Report<'a> {
    fn new(loaded: &'a Loaded, prompt_ids: &'a [u32], answer: &'a Answer, sampler: &SamplerConfig) -> Self {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let (prefill, decode) = speeds(&answer.stats);
        Self {
            version: JSON_VERSION,
            model: loaded.model.name(),
            adapter: loaded.model.gpu().info().label(),
            prompt_ids,
            ids: &answer.ids,
            text: answer.text.as_deref(),
            stop_reason: answer.stop.name(),
            seed: sampler.seed,
            timings: Timings {
                load_ms: ms(loaded.load),
                prefill_ms: ms(answer.stats.prefill),
                first_token_ms: ms(answer.stats.first_token),
                decode_ms: ms(answer.stats.decode),
                prefill_tokens_per_s: prefill,
                decode_tokens_per_s: decode,
            },
            expert_usage: None,
        }
    }
}

/// Tokens a second of prefill and of decode, where there were any. The first token belongs to the prefill.
fn speeds(stats: &Stats) -> (Option<f64>, Option<f64>) {
    let rate = |tokens: usize, time: Duration| (tokens > 0 && !time.is_zero()).then(|| tokens as f64 / time.as_secs_f64());
    let prefill = rate(stats.prompt_tokens - stats.cached_tokens, stats.prefill);
    (prefill, rate(stats.generated_tokens.saturating_sub(1), stats.decode))
}

/// What `--stats` and `/stats` show.
pub(crate) fn stats_text(loaded: &Loaded, stats: &Stats, stop: StopReason, sampler: &SamplerConfig) -> String {
    let model = &loaded.model;
    let plan = model.plan();
    let speed = |rate: Option<f64>| rate.map_or_else(String::new, |rate| format!(", {rate:.1} tokens/s"));
    let (prefill, decode) = speeds(stats);
    let fed = stats.prompt_tokens - stats.cached_tokens;
    let cached = match stats.cached_tokens {
        0 => String::new(),
        n => format!(" ({n} more were cached)"),
    };
    let lines = [
        format!(
            "model        {}, weights {}, KV cache {:?}",
            model.name(),
            model.dtype(),
            model.kv()
        )
        .to_lowercase(),
        load_text(loaded),
        format!(
            "prefill      {fed} tokens{cached} in {:.3} s{}",
            stats.prefill.as_secs_f64(),
            speed(prefill)
        ),
        format!("first token  {:.3} s", stats.first_token.as_secs_f64()),
        format!(
            "decode       {} tokens in {:.3} s{}",
            stats.generated_tokens,
            stats.decode.as_secs_f64(),
            speed(decode)
        ),
        format!("stopped by   {}", stop_words(stop)),
        format!(
            "memory       {} (weights {}, KV cache {}, activations {})",
            human_bytes(plan.total()),
            human_bytes(plan.weights),
            human_bytes(plan.kv_cache),
            human_bytes(plan.activations)
        ),
        format!("sampling     {}", sampling_words(sampler)),
    ];
    lines.join("\n") + "\n"
}

/// How long the model took to be there: the weights, and beside them the kernels.
fn load_text(loaded: &Loaded) -> String {
    let (upload, compiled) = (loaded.model.upload(), loaded.model.gpu().compiled());
    format!(
        "load         {:.2} s ({} in {:.2} s, {:.2} GB/s; {} pipelines in {:.0} ms)",
        loaded.load.as_secs_f64(),
        human_bytes(upload.bytes),
        upload.time.as_secs_f64(),
        upload.rate(),
        compiled.n_pipelines,
        compiled.time.as_secs_f64() * 1e3
    )
}

fn stop_words(stop: StopReason) -> String {
    match stop {
        StopReason::StopToken(id) => format!("the model (token {id})"),
        StopReason::MaxTokens => "the limit on tokens (-n)".into(),
        StopReason::ContextFull => "a full context (--ctx)".into(),
        StopReason::Cancelled => "Ctrl-C".into(),
    }
}

fn sampling_words(sampler: &SamplerConfig) -> String {
    let penalty = if sampler.has_penalty() {
        format!(", repeat penalty {}", sampler.repetition_penalty)
    } else {
        String::new()
    };
    if sampler.is_greedy() {
        return format!("greedy{penalty}");
    }
    let SamplerConfig {
        temperature,
        top_k,
        top_p,
        min_p,
        seed,
        ..
    } = sampler;
    format!("temperature {temperature}, top-k {top_k}, top-p {top_p}, min-p {min_p}{penalty}, seed {seed}")
}

/// Whether a conversation has outgrown the context, which a chat can say more about than the error does.
pub(crate) fn is_context_full(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<Error>(), Some(Error::ContextFull { .. }))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn prompt_at_terminal(options: &[&str]) -> Result<Prompt> {
        match Cli::try_parse_from(["qwgpu", "run"].iter().chain(options)).unwrap().command {
            Command::Run(args) => prompt(&args, true),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_a_chat_cannot_show_needs_a_prompt() {
        for option in ["--json", "--expert-stats"] {
            let Err(error) = prompt_at_terminal(&[option]) else {
                panic!("{option} begins a chat")
            };
            assert!(error.is::<Usage>() && error.to_string().starts_with(option), "{error}");
            assert!(matches!(prompt_at_terminal(&[option, "Hello"]), Ok(Prompt::Text(text)) if text == "Hello"));
            assert!(matches!(prompt_at_terminal(&[option, "--ids", "1,2"]), Ok(Prompt::Ids(ids)) if ids == [1, 2]));
        }
        assert!(matches!(prompt_at_terminal(&["--stats"]), Ok(Prompt::Chat)));
    }
}
