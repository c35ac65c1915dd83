//! The header of a safetensors file, checked so strictly that the bytes of every listed tensor may be sliced without a thought.
//!
//! The format is eight bytes of header length, a JSON object, and the tensors' bytes without holes. The safetensors crate
//! checks most of that but adds up offsets without looking for overflow, forgets a name's earlier entry when it is listed
//! twice, and names neither the tensor nor the numbers; so only its list of element types is used here.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use safetensors::Dtype;
use serde::Deserialize;
use serde::de::{Error as _, IgnoredAny, IntoDeserializer, MapAccess, Visitor};

/// Longest header that the format allows, in bytes.
const MAX_HEADER: u64 = 100_000_000;
/// Bytes of the header's length.
const PREFIX: usize = 8;

/// A tensor as its file lists it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    /// As spelled in the file.
    pub(super) dtype: String,
    pub(super) shape: Vec<usize>,
    /// Position in the whole file, inside it.
    pub(super) bytes: Range<usize>,
}

/// The tensors of a whole file in the order of their bytes, or what is wrong with it.
pub(super) fn read(file: &[u8]) -> Result<Vec<Entry>, String> {
    let Some((prefix, rest)) = file.split_first_chunk::<PREFIX>() else {
        return Err(format!(
            "it has {} bytes and cannot even hold a header; download it again",
            file.len()
        ));
    };
    let length = u64::from_le_bytes(*prefix);
    if length > MAX_HEADER {
        return Err(format!(
            "its header claims {length} bytes, more than the format's limit of {MAX_HEADER}; this is another kind of file"
        ));
    }
    let length = length as usize;
    if length > rest.len() {
        return Err(format!(
            "its header claims {length} bytes, but only {} follow; download it again",
            rest.len()
        ));
    }
    let (header, data) = rest.split_at(length);
    let Listing(raw) = serde_json::from_slice(header).map_err(|e| format!("its header cannot be read: {e}"))?;
    check(raw, data.len(), PREFIX + length)
}

/// Checks sizes and offsets against each other and against the `available` bytes that start at `base`.
fn check(raw: Vec<(String, RawEntry)>, available: usize, base: usize) -> Result<Vec<Entry>, String> {
    let mut entries = Vec::with_capacity(raw.len());
    let mut names = HashSet::with_capacity(raw.len());
    for (
        name,
        RawEntry {
            dtype,
            shape,
            data_offsets: [begin, end],
        },
    ) in raw
    {
        if !names.insert(name.clone()) {
            return Err(format!("it lists tensor `{name}` twice"));
        }
        if begin > end {
            return Err(format!("tensor `{name}` ends at byte {end}, before its start at {begin}"));
        }
        if end > available {
            return Err(format!(
                "tensor `{name}` ends at byte {end}, but the file holds only {available} bytes of tensors; download it again"
            ));
        }
        let needed = byte_size(&dtype, &shape)
            .ok_or_else(|| format!("tensor `{name}` of shape {shape:?} in {dtype} is too large to count or ends within a byte"))?;
        if needed.is_some_and(|needed| needed != end - begin) {
            return Err(format!(
                "tensor `{name}` of shape {shape:?} in {dtype} has {} bytes, which does not fit",
                end - begin
            ));
        }
        entries.push(Entry {
            name,
            dtype,
            shape,
            bytes: base + begin..base + end,
        });
    }
    entries.sort_by_key(|entry| (entry.bytes.start, entry.bytes.end));
    let mut covered = base;
    for Entry { name, bytes, .. } in &entries {
        if bytes.start < covered {
            return Err(format!("tensor `{name}` overlaps the one before it"));
        }
        if bytes.start > covered {
            return Err(format!(
                "{} bytes before tensor `{name}` belong to no tensor",
                bytes.start - covered
            ));
        }
        covered = bytes.end;
    }
    match base + available - covered {
        0 => Ok(entries),
        surplus => Err(format!("{surplus} bytes at its end belong to no tensor")),
    }
}

/// Bytes of a tensor; `Some(None)` when its type is not known, `None` when the product overflows or ends within a byte.
fn byte_size(dtype: &str, shape: &[usize]) -> Option<Option<usize>> {
    let n_elements = shape.iter().try_fold(1usize, |product, n| product.checked_mul(*n))?;
    let spelled: serde::de::value::StrDeserializer<'_, serde::de::value::Error> = dtype.into_deserializer();
    let Ok(known) = Dtype::deserialize(spelled) else {
        return Some(None);
    };
    let n_bits = n_elements.checked_mul(known.bitsize())?;
    n_bits.is_multiple_of(8).then_some(Some(n_bits / 8))
}

/// A tensor as the JSON has it.
#[derive(Deserialize)]
struct RawEntry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

/// The header's object without its metadata, every entry kept.
struct Listing(Vec<(String, RawEntry)>);

impl<'de> Deserialize<'de> for Listing {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ListingVisitor)
    }
}

struct ListingVisitor;

impl<'de> Visitor<'de> for ListingVisitor {
    type Value = Listing;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Listing, A::Error> {
        let mut entries = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let entry = map
                .next_value()
                .map_err(|e| A::Error::custom(format_args!("tensor `{name}`: {e}")))?;
            entries.push((name, entry));
        }
        Ok(Listing(entries))
    }
}
