//! Which weight files a checkpoint has, and which tensor is in which of them.
//!
//! `model.safetensors.index.json` decides where it exists, else there is one `model.safetensors`. The index comes from outside,
//! so a shard may only be a plain file name within the folder.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use serde::Deserialize;

use super::{Shard, Source, header};
use crate::{Error, Result};

/// Lists which tensor is in which shard.
const INDEX: &str = "model.safetensors.index.json";
/// The only weight file where there is no index.
const SINGLE: &str = "model.safetensors";

/// The part of the index that matters. Sorted, so that shards come in the order of their numbers.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// A tensor's name to its place, as (shard, place within it).
type Places = HashMap<String, (usize, usize)>;

/// Opens every weight file and finds every tensor.
pub(super) fn open(source: &Source) -> Result<(Vec<Shard>, Places)> {
    let wrong = |reason: String| Error::Json {
        file: INDEX.into(),
        reason,
    };
    let Some(text) = source.text(INDEX)? else {
        let shard = open_shard(source, SINGLE)?.ok_or_else(|| source.missing(&single_missing(source)))?;
        let shards = vec![shard];
        let places = places(&shards)?;
        return Ok((shards, places));
    };
    let Index { weight_map } = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    let files: BTreeSet<&str> = weight_map.values().map(String::as_str).collect();
    let mut shards = Vec::with_capacity(files.len());
    for file in files {
        if !is_plain_name(file) {
            return Err(wrong(format!(
                "it names the shard {file:?}, which is not a plain file name ending in .safetensors"
            )));
        }
        let shard = open_shard(source, file)?;
        shards.push(shard.ok_or_else(|| source.missing(&format!("{file} (a shard that {INDEX} names; download it again)")))?);
    }
    let places = places(&shards)?;
    for (tensor, file) in &weight_map {
        if places.get(tensor).is_none_or(|&(shard, _)| shards[shard].file != *file) {
            return Err(wrong(format!(
                "it says that tensor `{tensor}` is in {file}, but that shard has no such tensor"
            )));
        }
    }
    Ok((shards, places))
}

fn open_shard(source: &Source, file: &str) -> Result<Option<Shard>> {
    let Some(bytes) = source.bytes(file)? else { return Ok(None) };
    let entries = header::read(bytes.as_slice()).map_err(|reason| Error::SafeTensors { file: file.into(), reason })?;
    Ok(Some(Shard {
        file: file.into(),
        bytes,
        entries,
    }))
}

fn places(shards: &[Shard]) -> Result<Places> {
    let mut places = Places::new();
    for (number, shard) in shards.iter().enumerate() {
        for (place, entry) in shard.entries.iter().enumerate() {
            if let Some((first, _)) = places.insert(entry.name.clone(), (number, place)) {
                let reason = format!("it holds tensor `{}`, which {} holds too", entry.name, shards[first].file);
                return Err(Error::SafeTensors {
                    file: shard.file.clone(),
                    reason,
                });
            }
        }
    }
    Ok(places)
}

/// Whether `file` names a file of the folder itself, on every operating system.
fn is_plain_name(file: &str) -> bool {
    file.ends_with(".safetensors") && !file.starts_with('.') && !file.contains(['/', '\\', ':', '\0'])
}

/// What to call the missing weight file; where there are weights in another format, says so.
fn single_missing(source: &Source) -> String {
    let Source::Folder(dir) = source else { return SINGLE.into() };
    match other_weights(dir) {
        Some(other) => format!("{SINGLE} (only {other}, which has to be converted to safetensors first)"),
        None => SINGLE.into(),
    }
}

/// The first weight file of another format.
fn other_weights(dir: &Path) -> Option<String> {
    let names = dir
        .read_dir()
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
    let is_other = |name: &String| [".bin", ".gguf", ".pt", ".pth"].iter().any(|end| name.ends_with(end));
    names.filter(is_other).min()
}
