//! One revision of a repository as a folder: `models--owner--name/snapshots/COMMIT` of the shared Hugging Face cache.
//!
//! One request lists the repository with sizes and content ids; the revision is pinned to its commit there, so that a push
//! during the download cannot mix two versions. Small files come before the weights: a repository that is no model fails
//! within seconds, and a snapshot with weights has everything else. The branch's `refs` entry is written last, so it never
//! points to a snapshot that an offline run could not load.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use hf_hub::api::sync::{ApiBuilder, ApiRepo};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};
use serde::Deserialize;

use super::fault::Fault;
use super::transfer::{Client, Wanted};
use super::{RepoId, Settings, is_plain};

const CONFIG: &str = "config.json";
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// What a run reads beside the weights, and whether it can do without. Never `.bin` (pickled code) or `original/`.
const SMALL_FILES: [(&str, bool); 5] = [
    (CONFIG, true),
    ("tokenizer.json", true),
    ("generation_config.json", false),
    ("tokenizer_config.json", false),
    ("chat_template.jinja", false),
];

/// The hub's description of a repository at a revision (`/api/models/ID/revision/REV?blobs=true`).
#[derive(Deserialize)]
struct Listing {
    sha: String,
    siblings: Vec<RemoteFile>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RemoteFile {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
}

impl Listing {
    fn find(&self, name: &str) -> Option<&RemoteFile> {
        self.siblings.iter().find(|file| file.rfilename == name)
    }
}

impl RemoteFile {
    /// The file's name below `blobs`: what the hub sends as its ETag. A mirror may not tell it.
    fn blob_name(&self) -> Option<&str> {
        let id = self.lfs.as_ref().map(|lfs| lfs.sha256.as_str()).or(self.blob_id.as_deref())?;
        is_hash(id).then_some(id)
    }
}

/// A git commit, blob id or SHA-256 in hex; anything else from the network must not become part of a path.
fn is_hash(text: &str) -> bool {
    (40..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The folder with the files of `repo`, downloaded as far as they are not in the cache.
///
/// Where the hub cannot be reached, a whole snapshot in the cache is used, with a warning on standard error.
///
/// # Errors
/// One sentence with the repository's name, see [`Fault`].
pub(super) fn fetch(repo: &RepoId, settings: &Settings) -> Result<PathBuf> {
    let cache = Cache::new(settings.cache.clone()).repo(hf_repo(repo, &repo.revision));
    if settings.offline {
        return match cached(repo, &cache) {
            Ok(folder) => Ok(folder),
            Err(why) => bail!(
                "{repo} is no folder here, and {why} in the cache {}: HF_HUB_OFFLINE forbids the download, so unset it or give a folder",
                settings.cache.display()
            ),
        };
    }
    match download(repo, settings, &cache) {
        Ok(folder) => Ok(folder),
        Err(fault) if fault.is_outage() => match cached(repo, &cache) {
            Ok(folder) => {
                eprintln!("warning: {} cannot be reached; using {repo} from the cache", settings.endpoint);
                Ok(folder)
            }
            Err(_) => Err(fault.explain(repo, settings)),
        },
        Err(fault) => Err(fault.explain(repo, settings)),
    }
}

fn hf_repo(repo: &RepoId, revision: &str) -> Repo {
    Repo::with_revision(repo.id.clone(), RepoType::Model, revision.to_owned())
}

fn hub_repo(repo: &RepoId, revision: &str, settings: &Settings) -> Result<ApiRepo, Fault> {
    let api = ApiBuilder::from_cache(Cache::new(settings.cache.clone()))
        .with_endpoint(settings.endpoint.clone())
        .with_token(settings.token.clone())
        .with_user_agent(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
        .build()
        .map_err(|err| Fault::Unusable(format!("no connection can be set up ({err})")))?;
    Ok(api.repo(hf_repo(repo, revision)))
}

/// A snapshot in the cache that can be loaded, or what is missing as a clause ("config.json is not").
fn cached(repo: &RepoId, cache: &CacheRepo) -> Result<PathBuf, String> {
    let by_ref = cache.get(CONFIG).and_then(|config| config.parent().map(Path::to_path_buf));
    let folder = by_ref.unwrap_or_else(|| cache.pointer_path(&repo.revision));
    let missing = |name: &str| format!("its {name} is not");
    if !folder.is_dir() {
        return Err("it is not".to_owned());
    }
    if let Some((name, _)) = SMALL_FILES
        .iter()
        .find(|(name, required)| *required && !folder.join(name).is_file())
    {
        return Err(missing(name));
    }
    if folder.join(SINGLE).is_file() {
        return Ok(folder);
    }
    if !folder.join(INDEX).is_file() {
        return Err(missing(SINGLE));
    }
    let shards = shards(&folder.join(INDEX)).map_err(|_| missing("whole index of shards"))?;
    match shards.iter().find(|shard| !folder.join(shard).is_file()) {
        Some(shard) => Err(missing(shard)),
        None => Ok(folder),
    }
}

fn download(repo: &RepoId, settings: &Settings, cache: &CacheRepo) -> Result<PathBuf, Fault> {
    let listing = list(repo, settings)?;
    let client = Client {
        hub: &hub_repo(repo, &listing.sha, settings)?,
        settings,
    };
    let folder = cache.pointer_path(&listing.sha);
    let get = |file: &RemoteFile| {
        client.fetch(&Wanted {
            name: &file.rfilename,
            size: file.size,
            blob: file.blob_name().map(|name| cache.blob_path(name)),
            target: folder.join(&file.rfilename),
        })
    };
    for (name, required) in SMALL_FILES {
        match listing.find(name) {
            Some(file) => get(file)?,
            None if required => {
                return Err(Fault::Unusable(format!(
                    "the repository has no {name}, so it is no model that qwgpu can load"
                )));
            }
            None => {}
        }
    }
    if let Some(file) = listing.find(SINGLE) {
        get(file)?;
    } else if let Some(file) = listing.find(INDEX) {
        get(file)?;
        for shard in shards(&folder.join(INDEX))? {
            let file = listing
                .find(&shard)
                .ok_or_else(|| Fault::Unusable(format!("{INDEX} names {shard}, which the repository does not have")))?;
            get(file)?;
        }
    } else {
        return Err(Fault::Unusable(format!(
            "the repository has neither {SINGLE} nor {INDEX}: choose one with safetensors weights"
        )));
    }
    if repo.revision != listing.sha {
        cache.create_ref(&listing.sha).map_err(Fault::disk(&settings.cache))?;
    }
    Ok(folder)
}

/// Asks the hub for the commit and the files of a revision.
fn list(repo: &RepoId, settings: &Settings) -> Result<Listing, Fault> {
    let hub = hub_repo(repo, &repo.revision, settings)?;
    let answer = Client { hub: &hub, settings }.listing()?;
    let listing: Listing =
        serde_json::from_reader(answer).map_err(|err| Fault::Unusable(format!("the hub's description of it cannot be read ({err})")))?;
    if !is_hash(&listing.sha) {
        return Err(Fault::Unusable(format!(
            "the hub calls its commit {:?}, which is no commit",
            listing.sha
        )));
    }
    Ok(listing)
}

/// The shard files that an index names, each checked to be a plain file name.
fn shards(index: &Path) -> Result<BTreeSet<String>, Fault> {
    /// The one field of `model.safetensors.index.json` that matters: tensor name to file name.
    #[derive(Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let text = std::fs::read(index).map_err(Fault::disk(index))?;
    let parsed: Index = serde_json::from_slice(&text).map_err(|err| Fault::Unusable(format!("{INDEX} cannot be read ({err})")))?;
    let shards: BTreeSet<String> = parsed.weight_map.into_values().collect();
    if let Some(bad) = shards.iter().find(|shard| !is_shard_name(shard)) {
        return Err(Fault::Unusable(format!(
            "{INDEX} names {bad:?}, which is not a plain .safetensors file name"
        )));
    }
    if shards.is_empty() {
        return Err(Fault::Unusable(format!("{INDEX} names no files in weight_map")));
    }
    Ok(shards)
}

fn is_shard_name(name: &str) -> bool {
    !name.starts_with('.') && name.ends_with(".safetensors") && name.len() <= 255 && name.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_shards() {
        assert!(is_shard_name("model-00001-of-00002.safetensors"));
        for bad in [
            "../a.safetensors",
            "/a.safetensors",
            "a/b.safetensors",
            "a\\b.safetensors",
            ".safetensors",
            "a.bin",
            "",
            "c:a.safetensors",
        ] {
            assert!(!is_shard_name(bad), "{bad}");
        }
    }

    #[test]
    fn only_hex_becomes_part_of_a_path() {
        assert!(is_hash(&"0a".repeat(20)) && is_hash(&"F0".repeat(32)));
        assert!(!is_hash("main") && !is_hash(&"../".repeat(15)) && !is_hash(&"0a".repeat(33)));
    }
}
