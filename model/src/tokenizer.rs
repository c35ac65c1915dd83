//! Text to token ids and back, for byte-level BPE tokenizers in Hugging Face's `tokenizer.json` form.
//!
//! Encoding is the `tokenizers` crate's work: normalisation, the split regex with its look-ahead and the merges have to agree
//! with the reference to the last blank. Decoding is our own, from a table of each token's raw bytes made once at loading,
//! because a token may end inside a UTF-8 character: bytes are what can be joined, and [`StreamDecoder`] needs them anyway.

use std::collections::HashSet;

use serde::Deserialize;
use tokenizers::tokenizer::Model as _;

use crate::{Error, Result};

/// Ids above this are taken for a damaged file; it bounds the table of token bytes, and no model has a tenth as many.
const MAX_TOKENS: u32 = 1 << 24;

/// A tokenizer as loaded from `tokenizer.json`. Immutable, so that sessions can share it.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// The bytes of all tokens, one after the other in the order of their ids.
    bytes: Vec<u8>,
    /// `[n_tokens + 1]`: token `id` owns `bytes[offsets[id]..offsets[id + 1]]`.
    offsets: Vec<usize>,
    special: HashSet<u32>,
}

impl Tokenizer {
    /// Reads the content of a `tokenizer.json`.
    ///
    /// Merges may be written as `"a b"` or as `["a", "b"]`. Truncation and padding that the file asks for are switched off:
    /// a prompt must never be cut silently.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the text is not such a file, or describes something other than byte-level BPE.
    pub fn from_json(json: &str) -> Result<Self> {
        check_kind(json)?;
        let mut inner: tokenizers::Tokenizer = json.parse().map_err(|error| bad(format!("{error}")))?;
        inner.with_truncation(None).map_err(|error| bad(format!("{error}")))?;
        inner.with_padding(None);

        let tokens = tokens_by_id(&inner)?;
        let mut bytes = Vec::new();
        let mut offsets = vec![0];
        for token in &tokens {
            match token {
                Some(Token::Base(text)) => push_raw_bytes(text, &mut bytes),
                Some(Token::Added(content)) => bytes.extend_from_slice(content.as_bytes()),
                None => {}
            }
            offsets.push(bytes.len());
        }
        let added = inner.get_added_tokens_decoder();
        let special = added.iter().filter(|(_, token)| token.special).map(|(&id, _)| id).collect();
        Ok(Self {
            inner,
            bytes,
            offsets,
            special,
        })
    }

    /// The ids of `text`. Nothing is put before or after it; special tokens spelled out in the text become their ids, as in the
    /// reference implementation. Takes time in proportion to the text, whatever is in it. (The split regex gives up on a run of
    /// more than a million blanks; what follows it may then be cut into other tokens than the reference's, of the same text.)
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the library gives up on the text, which no known text brings about.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|error| bad(format!("a text cannot be encoded: {error}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of `ids`, without the special tokens if `skip_special`. Bytes that form no valid UTF-8 become U+FFFD, in the way
    /// of [`String::from_utf8_lossy`] on the whole; ids that name no token give no text.
    #[must_use]
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let mut bytes = Vec::new();
        for &id in ids {
            if !(skip_special && self.is_special(id)) {
                bytes.extend_from_slice(self.token_bytes(id));
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The highest id that names a token, plus one. The model's `vocab_size` is often larger; the ids from here on are padding
    /// rows of the embedding, have no text and must not be sampled.
    #[must_use]
    pub fn n_tokens(&self) -> usize {
        self.offsets.len() - 1
    }

    /// The raw bytes of a token, which need not be valid UTF-8 by themselves. A special token gives its name, an id without a
    /// token nothing.
    #[must_use]
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        let id = id as usize;
        if id < self.n_tokens() {
            &self.bytes[self.offsets[id]..self.offsets[id + 1]]
        } else {
            &[]
        }
    }

    /// Whether the token is a control token such as `<|im_end|>`, which is no part of the text.
    #[must_use]
    pub fn is_special(&self, id: u32) -> bool {
        self.special.contains(&id)
    }

    /// The id of a token as spelled in `tokenizer.json`, such as `<|im_end|>`.
    #[must_use]
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }
}

/// Turns a stream of ids into a stream of text: whatever [`push`](Self::push) returned, put together and followed by
/// [`finish`](Self::finish), equals [`Tokenizer::decode`] of all the ids with `skip_special`.
#[derive(Clone, Debug, Default)]
pub struct StreamDecoder {
    /// The beginning of a UTF-8 character that later tokens may complete; at most three bytes between calls.
    tail: Vec<u8>,
}

impl StreamDecoder {
    /// A decoder at the beginning of a text.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next id and returns the text that is complete now. Special tokens and ids without a token add nothing.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> String {
        if tokenizer.is_special(id) {
            String::new()
        } else {
            self.push_bytes(tokenizer.token_bytes(id))
        }
    }

    /// Ends the text: returns U+FFFD if it stops inside a character, and starts anew.
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.tail).into_owned();
        self.tail.clear();
        text
    }

    fn push_bytes(&mut self, bytes: &[u8]) -> String {
        self.tail.extend_from_slice(bytes);
        let mut text = String::new();
        let mut kept = 0;
        for chunk in self.tail.utf8_chunks() {
            text.push_str(chunk.valid());
            kept += chunk.valid().len();
            let invalid = chunk.invalid();
            // An invalid sequence that reaches the end may be no more than unfinished; `error_len` tells the two apart.
            let unfinished = std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
            if unfinished && kept + invalid.len() == self.tail.len() {
                break;
            }
            if !invalid.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
                kept += invalid.len();
            }
        }
        self.tail.drain(..kept);
        text
    }
}

enum Token {
    /// A token of the BPE model, spelled in GPT-2's byte alphabet.
    Base(String),
    /// An added token, spelled as it is.
    Added(String),
}

/// What has to be known of `tokenizer.json` before the library reads it: the library accepts other kinds of models, and panics on
/// a `continuing_subword_prefix` longer than a merged token.
#[derive(Deserialize)]
struct Kind {
    model: ModelKind,
    decoder: Option<DecoderKind>,
}

#[derive(Deserialize)]
struct ModelKind {
    // Old files leave it out.
    #[serde(rename = "type")]
    kind: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    dropout: Option<f32>,
}

#[derive(Deserialize)]
struct DecoderKind {
    #[serde(rename = "type")]
    kind: String,
}

fn check_kind(json: &str) -> Result<()> {
    let Kind { model, decoder } = serde_json::from_str(json).map_err(|error| bad(error.to_string()))?;
    if let Some(kind) = model.kind.filter(|kind| kind != "BPE") {
        return Err(bad(format!("its model is {kind}; only byte-level BPE is supported")));
    }
    match decoder {
        Some(decoder) if decoder.kind == "ByteLevel" => {}
        Some(decoder) => return Err(bad(format!("its decoder is {}; only ByteLevel is supported", decoder.kind))),
        None => return Err(bad("it has no decoder; only byte-level BPE is supported".into())),
    }
    for (field, value) in [
        ("continuing_subword_prefix", model.continuing_subword_prefix),
        ("end_of_word_suffix", model.end_of_word_suffix),
    ] {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            return Err(bad(format!("model.{field} is {value:?}; byte-level BPE has none")));
        }
    }
    match model.dropout {
        Some(dropout) if dropout != 0.0 => Err(bad(format!(
            "model.dropout is {dropout}, which belongs to training; set it to null"
        ))),
        _ => Ok(()),
    }
}

/// All tokens in the order of their ids, `None` where an id has none. An added token wins over one of the model, as in the library.
fn tokens_by_id(inner: &tokenizers::Tokenizer) -> Result<Vec<Option<Token>>> {
    let base = inner.get_model().get_vocab();
    let added = inner.get_added_tokens_decoder();
    let Some(&highest) = base.values().chain(added.keys()).max() else {
        return Err(bad("its vocabulary is empty".into()));
    };
    if highest >= MAX_TOKENS {
        return Err(bad(format!("it has a token with id {highest}; ids must be below {MAX_TOKENS}")));
    }
    let mut tokens: Vec<Option<Token>> = Vec::new();
    tokens.resize_with(highest as usize + 1, || None);
    for (text, id) in base {
        tokens[id as usize] = Some(Token::Base(text));
    }
    for (id, token) in added {
        tokens[id as usize] = Some(Token::Added(token.content));
    }
    Ok(tokens)
}

/// Appends the bytes that a token stands for. A token with a character outside the alphabet stands for itself, as in the library.
fn push_raw_bytes(token: &str, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    for character in token.chars() {
        let Some(byte) = byte_of(character) else {
            bytes.truncate(start);
            bytes.extend_from_slice(token.as_bytes());
            return;
        };
        bytes.push(byte);
    }
}

/// The byte behind a character of GPT-2's printable alphabet (`bytes_to_unicode` in openai/gpt-2, `src/encoder.py`): the printable
/// characters of Latin-1 are their own bytes, the other 68 bytes follow from U+0100 on in rising order.
fn byte_of(character: char) -> Option<u8> {
    let code = u32::from(character);
    let byte = match code {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => code,
        0x100..=0x120 => code - 0x100,        // bytes 0x00 to 0x20
        0x121..=0x142 => code - 0x121 + 0x7F, // bytes 0x7F to 0xA0
        0x143 => 0xAD,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

fn bad(reason: String) -> Error {
    Error::Tokenizer { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alphabet_covers_every_byte_once() {
        // Built the way GPT-2 builds it, to check the closed form above.
        let printable = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
        let mut next = 256;
        for byte in 0..=255_u8 {
            let code = if printable(byte.into()) {
                byte.into()
            } else {
                next += 1;
                next - 1
            };
            assert_eq!(byte_of(char::from_u32(code).unwrap()), Some(byte));
        }
        assert_eq!(next, 256 + 68);
        for outside in [' ', '\n', '\u{7F}', '\u{A0}', '\u{AD}', '\u{144}', '語'] {
            assert_eq!(byte_of(outside), None);
        }
    }

    #[test]
    fn stream_equals_lossy_on_the_whole_however_it_is_cut() {
        let whole: &[&[u8]] = &[
            "plain, Grüße, 語, 👩‍👩‍👧‍👦".as_bytes(),
            b"\xF0\x9F\x91",                  // ends inside a character
            b"a\xF0\x9Fb\xE8\xAA\x9E",        // a character broken off by another
            b"\x80\x80\xC3",                  // stray continuation bytes, then an unfinished lead
            b"\xE0\x80\x80\xED\xA0\x80\xFFz", // overlong form, surrogate, impossible byte
            b"\xF4\x90\x80\x80\xC0\xAF",      // above U+10FFFF, overlong slash
            b"",
        ];
        for bytes in whole {
            for step in 1..=bytes.len().max(1) {
                let mut decoder = StreamDecoder::new();
                let mut text = String::new();
                for piece in bytes.chunks(step) {
                    text += &decoder.push_bytes(piece);
                    assert!(decoder.tail.len() < 4, "held back {:x?}", decoder.tail);
                }
                text += &decoder.finish();
                assert_eq!(text, String::from_utf8_lossy(bytes), "{bytes:x?} in steps of {step}");
                assert_eq!(decoder.finish(), "", "finish starts anew");
            }
        }
    }

    #[test]
    fn stream_gives_out_text_as_soon_as_it_is_sure() {
        let mut decoder = StreamDecoder::new();
        assert_eq!(decoder.push_bytes(b"a\xE8\xAA"), "a");
        assert_eq!(decoder.push_bytes(b"\x9E\xF0"), "語");
        assert_eq!(decoder.push_bytes(b"x"), "\u{FFFD}x");
        assert_eq!(decoder.finish(), "");
    }
}
