//! `generation_config.json`: what the model's authors suggest for sampling, and where an answer ends.
//!
//! Every field may be absent; what is there has to have the right type, since a temperature that is quietly dropped shows
//! only as odd text.

use super::fields::{Fields, parse_object};
use crate::Result;

/// The file's name, for error messages.
const FILE: &str = "generation_config.json";

/// Sampling defaults that come with a checkpoint. `None` is "not given".
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationConfig {
    /// Token ids that end an answer (`eos_token_id`, one or several; empty when not given).
    pub eos_token_ids: Vec<u32>,
    /// Whether to sample at all; `false` is greedy decoding.
    pub do_sample: Option<bool>,
    /// Divisor of the logits, 0 or more.
    pub temperature: Option<f32>,
    /// Candidates kept by rank; 0 keeps all.
    pub top_k: Option<usize>,
    /// Candidates kept by cumulative probability, from 0 to 1.
    pub top_p: Option<f32>,
    /// Candidates kept by their probability relative to the best one's, from 0 to 1.
    pub min_p: Option<f32>,
    /// Divides positive and multiplies negative logits of tokens that occurred already; above 0, and 1 changes nothing.
    pub repetition_penalty: Option<f32>,
    /// The longest answer in tokens.
    pub max_new_tokens: Option<usize>,
}

impl GenerationConfig {
    /// Reads the text of a `generation_config.json`.
    ///
    /// # Errors
    /// [`Error::Json`](crate::Error::Json) naming the field when the text is no JSON object, or a field has another type or
    /// lies outside its range.
    pub fn from_json(text: &str) -> Result<Self> {
        let map = parse_object(FILE, text)?;
        let fields = Fields::new(FILE, &map);
        let real = |name, range| Ok::<_, crate::Error>(fields.real(name, range)?.map(|x| x as f32));
        Ok(Self {
            eos_token_ids: fields.token_ids("eos_token_id")?,
            do_sample: fields.flag("do_sample")?,
            temperature: real("temperature", 0.0..=1e4)?,
            top_k: fields.count("top_k", 0..=u32::MAX as usize)?,
            top_p: real("top_p", 0.0..=1.0)?,
            min_p: real("min_p", 0.0..=1.0)?,
            repetition_penalty: real("repetition_penalty", 1e-3..=1e3)?,
            max_new_tokens: fields.count("max_new_tokens", 0..=u32::MAX as usize)?,
        })
    }
}
