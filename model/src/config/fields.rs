//! Typed access to the fields of a JSON object, with errors that name the field and show its value.
//!
//! A serde struct would say "invalid type at line 7 column 21"; a user wants to read which field it was, so the object is
//! kept as a map and every field is taken out by name. `null` counts as absent, as it does in Python's configurations.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::{Error, Result};

/// The longest piece of a value that an error message repeats, in characters.
const SHOWN: usize = 60;

/// One JSON object of `file`; `prefix` is what error messages put before a field's name (`rope_scaling.` or nothing).
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    file: &'static str,
    prefix: &'a str,
    map: &'a Map<String, Value>,
}

/// Parses `text`, the contents of `file`, which has to hold one JSON object.
pub(super) fn parse_object(file: &'static str, text: &str) -> Result<Map<String, Value>> {
    let wrong = |reason: String| Error::Json { file: file.into(), reason };
    match serde_json::from_str(text).map_err(|e| wrong(e.to_string()))? {
        Value::Object(map) => Ok(map),
        other => Err(wrong(format!("it holds {} where a JSON object should be", show(&other)))),
    }
}

/// A value as JSON, cut where it gets long.
fn show(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

impl<'a> Fields<'a> {
    /// The top-level fields of `file`.
    pub(super) fn new(file: &'static str, map: &'a Map<String, Value>) -> Self {
        Self { file, prefix: "", map }
    }

    /// The fields of the object `name`; `prefix` is `name` and a dot. `None` where it is absent.
    pub(super) fn object(&self, name: &str, prefix: &'a str) -> Result<Option<Self>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Self {
                file: self.file,
                prefix,
                map,
            })),
            Some(_) => Err(self.wrong(name, "it must be an object")),
        }
    }

    /// The value of `name`, unless it is absent or null.
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// An error that shows the field's value; `reason` completes "it is so, but ...".
    pub(super) fn wrong(&self, name: &str, reason: impl Into<String>) -> Error {
        let field = format!("{}{name}", self.prefix);
        let value = self.get(name).map_or_else(|| "missing".into(), show);
        if self.file == super::FILE {
            return Error::config(&field, value, reason);
        }
        Error::Json {
            file: self.file.into(),
            reason: format!("`{field}` is {value}, but {}", reason.into()),
        }
    }

    /// A whole number in `range`, or `None` where it is absent.
    pub(super) fn count(&self, name: &str, range: RangeInclusive<usize>) -> Result<Option<usize>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let count = value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| range.contains(n));
        count.map(Some).ok_or_else(|| self.wrong(name, whole(&range)))
    }

    /// A whole number in `range` that has to be there.
    pub(super) fn need_count(&self, name: &str, range: RangeInclusive<usize>) -> Result<usize> {
        let needed = whole(&range);
        self.count(name, range)?.ok_or_else(|| self.wrong(name, needed))
    }

    /// A number in `range`, or `None` where it is absent.
    pub(super) fn real(&self, name: &str, range: RangeInclusive<f64>) -> Result<Option<f64>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let real = value.as_f64().filter(|x| range.contains(x));
        real.map(Some).ok_or_else(|| self.wrong(name, number(&range)))
    }

    /// A number in `range` that has to be there.
    pub(super) fn need_real(&self, name: &str, range: RangeInclusive<f64>) -> Result<f64> {
        let needed = number(&range);
        self.real(name, range)?.ok_or_else(|| self.wrong(name, needed))
    }

    /// `true` or `false`, or `None` where it is absent.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.wrong(name, "it must be true or false")),
        }
    }

    /// A string, or `None` where it is absent.
    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "it must be a string")),
        }
    }

    /// A list, or an empty one where it is absent.
    pub(super) fn list(&self, name: &str) -> Result<&'a [Value]> {
        match self.get(name) {
            None => Ok(&[]),
            Some(Value::Array(list)) => Ok(list),
            Some(_) => Err(self.wrong(name, "it must be a list")),
        }
    }

    /// Token ids: one number, a list of them, or nothing.
    pub(super) fn token_ids(&self, name: &str) -> Result<Vec<u32>> {
        let values = match self.get(name) {
            None => &[],
            Some(Value::Array(list)) => list.as_slice(),
            Some(one) => std::slice::from_ref(one),
        };
        let id = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok());
        let ids: Option<Vec<u32>> = values.iter().map(id).collect();
        ids.ok_or_else(|| self.wrong(name, "it must be a token id or a list of token ids"))
    }
}

fn whole(range: &RangeInclusive<usize>) -> String {
    format!("it must be a whole number from {} to {}", range.start(), range.end())
}

fn number(range: &RangeInclusive<f64>) -> String {
    format!("it must be a number from {} to {}", range.start(), range.end())
}
