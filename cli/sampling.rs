//! The options that say how to choose tokens, laid over what the model's authors suggest.
//!
//! The rules are those of transformers' `generate`: nothing is sampled unless `do_sample` asks for it, and what
//! generation_config.json leaves out has transformers' defaults. An option on the command line that only makes sense when
//! sampling turns it on.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use qwgpu_model::config::GenerationConfig;
use qwgpu_model::sampler::SamplerConfig;
use qwgpu_model::{Error, Result};

/// Transformers' default, where sampling is on and nothing else is said.
const DEFAULT_TOP_K: usize = 50;

/// Options of `qwgpu run`.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingArgs {
    /// Always take the likeliest token
    #[arg(long, conflicts_with_all = ["temp", "top_k", "top_p", "min_p"])]
    pub(crate) greedy: bool,
    /// Divides the logits: lower is more predictable, 0 is --greedy
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub(crate) temp: Option<f32>,
    /// Choose among the K likeliest tokens only; 0 is off
    #[arg(long, value_name = "K")]
    pub(crate) top_k: Option<usize>,
    /// Choose among the fewest tokens with this much probability together; 1 is off
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub(crate) top_p: Option<f32>,
    /// Leave out tokens below this fraction of the likeliest one's probability; 0 is off
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub(crate) min_p: Option<f32>,
    /// Make tokens that occurred less likely; 1 is off
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) repeat_penalty: Option<f32>,
    /// The same seed gives the same text [default: another one each time]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
}

impl SamplingArgs {
    /// What to sample with.
    ///
    /// # Errors
    /// [`Error::Option`] naming the option whose value is out of range.
    pub(crate) fn config(&self, model: &GenerationConfig) -> Result<SamplerConfig> {
        let asked = self.temp.is_some() || self.top_k.is_some() || self.top_p.is_some() || self.min_p.is_some();
        let sample = !self.greedy && (asked || model.do_sample == Some(true));
        let mut config = SamplerConfig::greedy();
        config.repetition_penalty = self.repeat_penalty.or(model.repetition_penalty).unwrap_or(1.0);
        config.seed = self.seed.unwrap_or_else(random_seed);
        if sample {
            config.temperature = self.temp.or(model.temperature).unwrap_or(1.0);
            config.top_k = self.top_k.or(model.top_k).unwrap_or(DEFAULT_TOP_K);
            config.top_p = self.top_p.or(model.top_p).unwrap_or(1.0);
            config.min_p = self.min_p.or(model.min_p).unwrap_or(0.0);
        }
        config.validate().map_err(in_our_words)?;
        Ok(config)
    }
}

/// The library's names of options as this command line spells them.
fn in_our_words(error: Error) -> Error {
    match error {
        Error::Option { option, value, reason } => {
            let option = match option.as_str() {
                "--temperature" => "--temp".into(),
                "--repetition-penalty" => "--repeat-penalty".into(),
                _ => option,
            };
            Error::Option { option, value, reason }
        }
        other => other,
    }
}

/// A seed from the clock, short enough to type again.
fn random_seed() -> u64 {
    let nanos = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64);
    hash(nanos, u64::from(std::process::id())) >> 32
}

/// A number that looks random, from a key and a counter: two rounds of the finaliser of SplitMix64 (Steele et al. 2014).
pub(crate) fn hash(key: u64, counter: u64) -> u64 {
    let mix = |mut z: u64| {
        z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    };
    mix(mix(key).wrapping_add(counter))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suggested() -> GenerationConfig {
        GenerationConfig {
            do_sample: Some(true),
            temperature: Some(0.7),
            top_p: Some(0.9),
            top_k: Some(0),
            ..GenerationConfig::default()
        }
    }

    #[test]
    fn the_model_suggests_and_options_decide() {
        let none = SamplingArgs::default();
        let config = none.config(&suggested()).unwrap();
        assert_eq!((config.temperature, config.top_p, config.top_k), (0.7, 0.9, 0));
        assert!(
            none.config(&GenerationConfig::default()).unwrap().is_greedy(),
            "nobody asked for sampling"
        );
        let greedy = SamplingArgs {
            greedy: true,
            ..none.clone()
        };
        assert!(greedy.config(&suggested()).unwrap().is_greedy());
        let top_p = SamplingArgs { top_p: Some(0.5), ..none };
        let config = top_p.config(&GenerationConfig::default()).unwrap();
        assert_eq!((config.temperature, config.top_p, config.top_k), (1.0, 0.5, DEFAULT_TOP_K));
    }

    #[test]
    fn ranges_are_checked_under_the_names_of_this_command_line() {
        let args = SamplingArgs {
            temp: Some(-1.0),
            ..SamplingArgs::default()
        };
        assert!(args.config(&suggested()).unwrap_err().to_string().starts_with("--temp is -1"));
        let args = SamplingArgs {
            repeat_penalty: Some(0.0),
            ..SamplingArgs::default()
        };
        assert!(
            args.config(&suggested())
                .unwrap_err()
                .to_string()
                .starts_with("--repeat-penalty is 0")
        );
    }
}
