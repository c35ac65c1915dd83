//! Chat templates: a conversation to the prompt that the model was tuned on.
//!
//! Checkpoints bring their template as Jinja source written for Hugging Face's `apply_chat_template`, so what counts is that
//! environment, not Jinja at large: blocks are trimmed, a few functions are there, `tojson` does not escape for HTML, and
//! Python's string methods work. A template comes from a download and is not trusted: each rendering has a budget of steps and
//! memory, and whatever goes wrong in it is an error.

mod clock;
mod json;

use std::error::Error as _;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, ErrorKind};
use serde::Deserialize;

use crate::{Error, Result};

/// The name under which error messages speak of the template.
const NAME: &str = "chat_template";

/// Steps of the template engine for one rendering; it charges one for an instruction and one for 64 bytes of data. A long
/// conversation (a thousand messages, a megabyte) takes below 100 thousand. This many take a second or so.
const FUEL: u64 = 10_000_000;

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who speaks: `system`, `user` or `assistant`, or whatever else the template knows.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A message with this role and content.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
        }
    }
}

/// The special tokens that a template can refer to, as `bos_token` and so on; those that are `None` print as nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Begins a text. Qwen2 has none.
    pub bos: Option<String>,
    /// Ends a turn.
    pub eos: Option<String>,
    /// Fills up a batch.
    pub pad: Option<String>,
    /// Stands for what cannot be encoded. Byte-level tokenizers need none.
    pub unk: Option<String>,
}

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
}

impl ChatTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// [`Error::Template`] if the source is not valid Jinja.
    pub fn new(source: &str, special_tokens: &SpecialTokens) -> Result<Self> {
        let mut environment = Environment::new();
        // As in transformers, `utils/chat_template_utils.py`, `_compile_jinja_template`.
        environment.set_syntax(
            SyntaxConfig::builder()
                .trim_blocks(true)
                .lstrip_blocks(true)
                .build()
                .map_err(|error| template_error(&error))?,
        );
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_fuel(Some(FUEL));
        environment.add_filter("tojson", json::tojson);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", clock::strftime_now);
        let SpecialTokens { bos, eos, pad, unk } = special_tokens;
        for (name, token) in [("bos_token", bos), ("eos_token", eos), ("pad_token", pad), ("unk_token", unk)] {
            if let Some(token) = token {
                environment.add_global(name, token.as_str());
            }
        }
        environment
            .add_template_owned(NAME, without_generation_tags(source))
            .map_err(|error| template_error(&error))?;
        Ok(Self { environment })
    }

    /// Finds a checkpoint's template, given the contents of its `tokenizer_config.json` and `chat_template.jinja`.
    ///
    /// The latter wins. In the former, `chat_template` is the source, or a list of named sources of which `default` is taken.
    /// `None` if neither has one: a base model continues plain text.
    ///
    /// # Errors
    /// [`Error::Json`] if `tokenizer_config.json` is not valid, [`Error::Template`] if the template is not, or if there are
    /// several and none is the default.
    pub fn from_checkpoint_files(tokenizer_config: Option<&str>, chat_template_jinja: Option<&str>) -> Result<Option<Self>> {
        let config = match tokenizer_config {
            Some(json) => serde_json::from_str::<TokenizerConfig>(json).map_err(|error| Error::Json {
                file: "tokenizer_config.json".into(),
                reason: error.to_string(),
            })?,
            None => TokenizerConfig::default(),
        };
        let special_tokens = config.special_tokens();
        let source = match (chat_template_jinja, config.chat_template) {
            (Some(source), _) => source.to_owned(),
            (None, Some(TemplateField::Source(source))) => source,
            (None, Some(TemplateField::Named(templates))) => templates
                .into_iter()
                .find(|named| named.name == "default")
                .map(|named| named.template)
                .ok_or_else(|| Error::Template {
                    reason: "tokenizer_config.json lists several and none named `default`".into(),
                })?,
            (None, None) => return Ok(None),
        };
        Self::new(&source, &special_tokens).map(Some)
    }

    /// The prompt for a conversation. `add_generation_prompt` ends it with the opening of the assistant's turn.
    ///
    /// The contents go in as they are: a special token spelled out in a message becomes a real one when the prompt is encoded.
    ///
    /// # Errors
    /// [`Error::Template`] if the template refuses the conversation (with its own words) or fails.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let messages: Vec<Value> = messages
            .iter()
            .map(|message| Value::from_pairs([("role", message.role.as_str()), ("content", message.content.as_str())]))
            .collect();
        let context = minijinja::context! {
            messages => messages,
            add_generation_prompt => add_generation_prompt,
            // Defined and none, as in transformers when there are none: templates test for both.
            tools => (),
            documents => (),
        };
        let template = self.environment.get_template(NAME).map_err(|error| template_error(&error))?;
        template.render(context).map_err(|error| template_error(&error))
    }
}

/// What is read of `tokenizer_config.json`.
#[derive(Default, Deserialize)]
struct TokenizerConfig {
    chat_template: Option<TemplateField>,
    bos_token: Option<TokenField>,
    eos_token: Option<TokenField>,
    pad_token: Option<TokenField>,
    unk_token: Option<TokenField>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "chat_template must be a string or a list of {name, template}")]
enum TemplateField {
    Source(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a special token must be a string or an object with its `content`")]
enum TokenField {
    Text(String),
    Object { content: String },
}

impl TokenizerConfig {
    fn special_tokens(&self) -> SpecialTokens {
        let text = |field: &Option<TokenField>| {
            field.as_ref().map(|token| match token {
                TokenField::Text(text) | TokenField::Object { content: text } => text.clone(),
            })
        };
        SpecialTokens {
            bos: text(&self.bos_token),
            eos: text(&self.eos_token),
            pad: text(&self.pad_token),
            unk: text(&self.unk_token),
        }
    }
}

/// Templates call this to refuse a conversation.
fn raise_exception(message: String) -> std::result::Result<Value, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
}

/// Turns `{% generation %} ... {% endgeneration %}`, which transformers adds to mark what the assistant said for training, into a
/// block that does nothing, because the engine would refuse the unknown tag.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find('{') {
        let (text, markup) = rest.split_at(start);
        out.push_str(text);
        let end = markup_len(markup);
        let (markup, after) = markup.split_at(end);
        let is_control = |c: char| c == '-' || c == '+' || c.is_whitespace();
        let inside = markup
            .strip_prefix("{%")
            .and_then(|tag| tag.strip_suffix("%}"))
            .map(|tag| tag.trim_matches(is_control));
        match inside {
            Some("generation") => out.push_str(&markup.replacen("generation", "if true", 1)),
            Some("endgeneration") => out.push_str(&markup.replacen("endgeneration", "endif", 1)),
            _ => out.push_str(markup),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The length in bytes of the tag, expression or comment that `source` begins with; 1 if it is only a brace. What is in quotes
/// does not end it.
fn markup_len(source: &str) -> usize {
    let close: &[u8] = match source.as_bytes().get(1) {
        Some(b'%') => b"%}",
        Some(b'{') => b"}}",
        Some(b'#') => return source.find("#}").map_or(source.len(), |end| end + 2),
        _ => return 1,
    };
    let bytes = source.as_bytes();
    let (mut quote, mut at) = (None, 2);
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (None, b'\'' | b'"') => quote = Some(bytes[at]),
            (None, _) if bytes[at..].starts_with(close) => return at + 2,
            (Some(_), b'\\') => at += 1,
            (Some(open), byte) if open == byte => quote = None,
            _ => {}
        }
        at += 1;
    }
    source.len()
}

fn template_error(error: &minijinja::Error) -> Error {
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        reason = format!("{reason}: {inner}");
        source = inner.source();
    }
    Error::Template { reason }
}

#[cfg(test)]
mod tests;
