//! `qwgpu perplexity`: how well a model predicts a text. The windowing is described in `--help`.

use anyhow::{Context, Result, bail};
use qwgpu_model::{Error, Session};
use serde::Serialize;

use crate::args::PerplexityArgs;
use crate::model_args::counting_bar;
use crate::output::{JSON_VERSION, print, print_json};

#[derive(Serialize)]
struct Report<'a> {
    version: u32,
    model: &'a str,
    adapter: String,
    file: String,
    n_tokens: usize,
    n_scored: usize,
    window: usize,
    mean_nll: f64,
    ppl: f64,
}

/// Runs the command.
///
/// # Errors
/// One sentence for the user.
pub(crate) fn run(args: &PerplexityArgs) -> Result<()> {
    if args.window < 2 {
        let reason = "a window needs a token to begin with and one to score".into();
        return Err(Error::Option {
            option: "--window".into(),
            value: args.window.to_string(),
            reason,
        }
        .into());
    }
    let path = args.file.display();
    let bytes = std::fs::read(&args.file).with_context(|| format!("cannot read {path}"))?;
    let text = String::from_utf8(bytes).map_err(|_| anyhow::anyhow!("{path} is not UTF-8 text"))?;
    let checkpoint = args.model.checkpoint()?;
    let loaded = args.model.load(&checkpoint, Some(args.window.min(checkpoint.config().max_ctx())))?;
    let model = &loaded.model;
    if args.window > model.ctx() {
        let reason = format!("the context has {} tokens; raise --ctx or lower --window", model.ctx());
        return Err(Error::Option {
            option: "--window".into(),
            value: args.window.to_string(),
            reason,
        }
        .into());
    }
    let Some(tokenizer) = model.tokenizer() else {
        bail!("{} has no tokenizer.json, so it cannot read text", model.name());
    };
    let ids = tokenizer.encode(&text)?;
    if ids.len() < 2 {
        bail!("{path} has {} tokens; there is nothing to score below two", ids.len());
    }
    let vocab_size = model.config().vocab_size;
    if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocab_size) {
        return Err(Error::TokenOutOfRange { id, vocab_size }.into());
    }
    let (sum, n_scored) = score(&mut Session::new(model)?, &ids, args.window)?;
    let mean_nll = sum / n_scored as f64;
    if args.json {
        return print_json(&Report {
            version: JSON_VERSION,
            model: model.name(),
            adapter: model.gpu().info().label(),
            file: path.to_string(),
            n_tokens: ids.len(),
            n_scored,
            window: args.window,
            mean_nll,
            ppl: mean_nll.exp(),
        });
    }
    print(&format!(
        "tokens    {}\nscored    {n_scored}\nwindow    {}\nmean_nll  {mean_nll:.5}\nppl       {:.4}\n",
        ids.len(),
        args.window,
        mean_nll.exp()
    ))
}

/// The sum of the negative log-likelihoods of all scored tokens, and their number.
fn score(session: &mut Session, ids: &[u32], window: usize) -> Result<(f64, usize)> {
    let vocab_size = session.model().config().vocab_size;
    let bar = counting_bar(ids.len(), "scoring");
    let (mut sum, mut n_scored, mut read) = (0.0, 0, 0);
    for tokens in ids.chunks(window) {
        if tokens.len() > 1 {
            session.rewind(0);
            // The last token predicts nothing within its window.
            let inputs = &tokens[..tokens.len() - 1];
            session.feed_all_logits(inputs, &mut |first, rows| {
                for (i, logits) in rows.chunks_exact(vocab_size).enumerate() {
                    sum += nll(logits, tokens[first + i + 1]);
                    n_scored += 1;
                }
                bar.set_position((read + first + rows.len() / vocab_size) as u64);
                bar.set_message(format!("ppl {:.3}", (sum / f64::from(n_scored)).exp()));
            })?;
        }
        read += tokens.len();
    }
    bar.finish_and_clear();
    Ok((sum, n_scored as usize))
}

/// -ln softmax(logits)\[target\], in f64 and with the largest logit taken out.
fn nll(logits: &[f32], target: u32) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - max).exp()).sum();
    sum.ln() - f64::from(logits[target as usize] - max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nll_is_minus_the_log_of_the_probability() {
        assert!((nll(&[0.0, 0.0, 0.0, 0.0], 2) - 4f64.ln()).abs() < 1e-12);
        // e^1 / (e^1 + e^3) with a shift that would overflow exp
        let expected = (1.0 + 2f64.exp()).ln();
        assert!((nll(&[1001.0, 1003.0], 0) - expected).abs() < 1e-12);
    }
}
