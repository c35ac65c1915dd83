//! What `-m MODEL` names: the built-in demo, a folder, or a repository of the Hugging Face hub.
//!
//! Everything behind this file sees a folder of plain files; only here is it known where they came from. A folder that
//! exists wins over a repository of the same name, because a user who has `owner/name` on disk means that one. The hub
//! half sits behind the cargo feature `hub`; without it a repository id gets an answer that says what to do.

// The paths are spelled out so that the integration test, which includes this file, finds the same modules.
#[cfg(feature = "hub")]
#[path = "hub/fault.rs"]
mod fault;
#[cfg(feature = "hub")]
#[path = "hub/settings.rs"]
mod settings;
#[cfg(feature = "hub")]
#[path = "hub/snapshot.rs"]
mod snapshot;
#[cfg(feature = "hub")]
#[path = "hub/transfer.rs"]
mod transfer;

#[cfg(feature = "hub")]
pub(crate) use settings::Settings;

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// The branch that an id without `@revision` means.
const DEFAULT_REVISION: &str = "main";
/// The longest owner or name that the hub gives out.
const MAX_NAME_LEN: usize = 96;

/// Where a model's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ModelSource {
    /// The checkpoint embedded in the binary.
    Demo,
    /// A folder with `config.json`, `tokenizer.json` and `.safetensors` files.
    Folder(PathBuf),
}

/// A repository of the hub at a revision; both parts are safe to use in a URL and as a path below the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RepoId {
    /// `owner/name`.
    pub(crate) id: String,
    /// A branch, tag or commit.
    pub(crate) revision: String,
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.revision == DEFAULT_REVISION {
            f.write_str(&self.id)
        } else {
            write!(f, "{}@{}", self.id, self.revision)
        }
    }
}

/// Turns the argument of `-m` into a place with files, downloading a repository of the hub where it is not cached yet.
///
/// `progress` shows one bar per file on standard error. The environment decides about the hub: see [`Settings`].
///
/// # Errors
/// One sentence that names `model` and says what to do: no such folder, a file instead of a folder, neither a folder nor a
/// repository id, or whatever kept the hub from delivering.
pub(crate) fn resolve(model: &str, progress: bool) -> Result<ModelSource> {
    #[cfg(feature = "hub")]
    return match name(model)? {
        Named::Here(source) => Ok(source),
        Named::Repo(repo) => fetch(&repo, &Settings::from_env(progress)?),
    };
    #[cfg(not(feature = "hub"))]
    {
        let _ = progress;
        match name(model)? {
            Named::Here(source) => Ok(source),
            Named::Repo(repo) => bail!(
                "{repo} is not a folder, and this qwgpu was built without the `hub` feature: download the repository and give its folder"
            ),
        }
    }
}

/// [`resolve`] with the hub's settings given instead of read from the environment.
///
/// # Errors
/// As [`resolve`].
#[cfg(feature = "hub")]
#[allow(
    dead_code,
    reason = "for the integration test, which brings its own settings; the binary reads the environment"
)]
pub(crate) fn resolve_with(model: &str, settings: &Settings) -> Result<ModelSource> {
    match name(model)? {
        Named::Here(source) => Ok(source),
        Named::Repo(repo) => fetch(&repo, settings),
    }
}

#[cfg(feature = "hub")]
fn fetch(repo: &RepoId, settings: &Settings) -> Result<ModelSource> {
    Ok(ModelSource::Folder(snapshot::fetch(repo, settings)?))
}

/// What the argument names before anything is fetched.
enum Named {
    Here(ModelSource),
    Repo(RepoId),
}

fn name(model: &str) -> Result<Named> {
    if model == "demo" {
        return Ok(Named::Here(ModelSource::Demo));
    }
    if model.trim().is_empty() {
        bail!("the model name is empty: give a folder, a repository id owner/name, or demo");
    }
    let path = Path::new(model);
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => return Ok(Named::Here(ModelSource::Folder(path.to_path_buf()))),
        Ok(_) if has_extension(path, "gguf") => {
            bail!(
                "{model} is a GGUF file, which qwgpu does not read: give a folder with config.json, tokenizer.json and .safetensors files"
            )
        }
        Ok(_) => bail!("{model} is a file: give the folder that holds config.json, tokenizer.json and the .safetensors files"),
        Err(err)
            if matches!(
                err.kind(),
                ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename
            ) => {}
        Err(err) if is_path_like(model) => bail!("cannot open the folder {model}: {err}"),
        // A name that cannot be a path on this system (a NUL, a reserved character) can still be judged as an id.
        Err(_) => {}
    }
    if is_path_like(model) {
        bail!("there is no folder {model}: give a folder with config.json, tokenizer.json and .safetensors files");
    }
    match parse_repo(model) {
        Some(repo) => Ok(Named::Repo(repo)),
        None => bail!("{model:?} is neither a folder nor a repository id: give a folder, owner/name or owner/name@revision, or demo"),
    }
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|have| have.eq_ignore_ascii_case(wanted))
}

/// True for what only a path can look like; such a name is never sent to the hub.
fn is_path_like(model: &str) -> bool {
    let before_revision = model.split('@').next().unwrap_or(model);
    model.starts_with(['.', '/', '~']) || model.contains('\\') || model.ends_with('/') || before_revision.matches('/').count() > 1
}

/// Reads `owner/name` or `owner/name@revision` by the hub's own naming rules.
fn parse_repo(model: &str) -> Option<RepoId> {
    let (id, revision) = model.split_once('@').unwrap_or((model, DEFAULT_REVISION));
    let (owner, name) = id.split_once('/')?;
    let valid = is_repo_part(owner) && is_repo_part(name) && is_revision(revision);
    valid.then(|| RepoId {
        id: id.to_owned(),
        revision: revision.to_owned(),
    })
}

fn is_repo_part(part: &str) -> bool {
    let ends_well = !part.starts_with(['.', '-']) && !part.ends_with(['.', '-']);
    // `--` separates owner and name in the cache's folder names.
    let one_name = !part.contains("..") && !part.contains("--");
    !part.is_empty() && part.len() <= MAX_NAME_LEN && ends_well && one_name && part.chars().all(is_plain)
}

/// A git ref name, restricted to what needs no escaping; `a/b` is allowed (`refs/pr/1`), `..` and empty parts are not.
fn is_revision(revision: &str) -> bool {
    let part_ok = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with('.') && part.chars().all(is_plain);
    revision.len() <= 255 && !revision.contains("..") && revision.split('/').all(part_ok)
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_the_naming_rules_of_the_hub() {
        let repo = |text: &str| parse_repo(text).map(|repo| (repo.id, repo.revision));
        let some = |id: &str, revision: &str| Some((id.to_owned(), revision.to_owned()));
        assert_eq!(repo("Qwen/Qwen2.5-0.5B"), some("Qwen/Qwen2.5-0.5B", "main"));
        assert_eq!(repo("a/b@v1.0"), some("a/b", "v1.0"));
        assert_eq!(repo("a/b@refs/pr/1"), some("a/b", "refs/pr/1"));
        for bad in [
            "gpt2", "a/", "/b", "a b/c", "a/b--c", "a/b@", "a/b@../x", "a/b@x/", "a/b@/x", "a/b@.git", "a/b?c", "a/b#c", "a/b%2e", "a@b/c",
        ] {
            assert_eq!(repo(bad), None, "{bad} was taken for a repository id");
        }
    }

    #[test]
    fn what_looks_like_a_path_is_one() {
        for path in ["./a", "../a", "/a", "~/a", "a\\b", "a/b/c", "a/b/"] {
            assert!(is_path_like(path), "{path}");
        }
        for id in ["a/b", "a/b@refs/pr/1", "demo2"] {
            assert!(!is_path_like(id), "{id}");
        }
    }

    #[test]
    fn the_revision_is_shown_only_where_it_was_given() {
        let shown = |text: &str| parse_repo(text).map(|repo| repo.to_string());
        assert_eq!(shown("a/b"), Some("a/b".to_owned()));
        assert_eq!(shown("a/b@v1"), Some("a/b@v1".to_owned()));
    }
}
