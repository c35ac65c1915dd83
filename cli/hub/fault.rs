//! What can go wrong between the hub and the disk, and the one sentence a user reads about it.
//!
//! Kept as a type until the end, because two faults are acted upon: a hub that cannot be reached falls back to the cache,
//! and a broken transfer is taken up again.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Error, anyhow};

use super::{RepoId, Settings};

/// A fault of one step of a download.
#[derive(Debug)]
pub(super) enum Fault {
    /// No answer: no network, no such host, nobody listening, silence.
    Unreachable(String),
    /// A transfer ended early or fell silent; what arrived is on disk.
    Broken {
        file: String,
        have: u64,
        size: Option<u64>,
        why: String,
    },
    /// The hub answered with a status that is no success. `code` is its `X-Error-Code`, or empty.
    Status { status: u16, code: String, file: Option<String> },
    /// A file or folder of the cache could not be read or written.
    Disk { path: PathBuf, source: io::Error },
    /// The repository or an answer of the hub is not what it must be; a clause that goes on after the repository's name.
    Unusable(String),
}

impl Fault {
    /// For `map_err` on a file operation at `path`.
    pub(super) fn disk(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Disk {
            path: path.to_path_buf(),
            source,
        }
    }

    /// True where the hub is not there at all, so that what the cache holds is the best answer.
    pub(super) fn is_outage(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Status { status, .. } => *status == 429 || *status >= 500,
            _ => false,
        }
    }

    /// The sentence for the user.
    pub(super) fn explain(self, repo: &RepoId, settings: &Settings) -> Error {
        let endpoint = &settings.endpoint;
        match self {
            Self::Unreachable(why) => anyhow!(
                "{repo} is no folder here, and the hub at {endpoint} cannot be reached ({why}): check the name, the network and HF_ENDPOINT, or give a folder"
            ),
            Self::Broken { file, have, size, why } => {
                let of = size.map(|size| format!(" of {size}")).unwrap_or_default();
                anyhow!(
                    "{repo}: the download of {file} broke off after {have}{of} bytes ({why}): run the same command again, finished files and parts are kept"
                )
            }
            Self::Status { status, code, file } => explain_status(status, &code, file.as_deref(), repo, settings),
            Self::Disk { path, source } if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                anyhow!(
                    "{repo}: the disk is full at {}: free some space and run again, or set HF_HOME to a folder on another disk",
                    path.display()
                )
            }
            Self::Disk { path, source } => {
                anyhow!(
                    "{repo}: cannot use {} in the download cache ({source}): check its rights, or set HF_HOME to another folder",
                    path.display()
                )
            }
            Self::Unusable(what) => anyhow!("{repo}: {what}"),
        }
    }
}

/// The hub tells a missing repository from a gated one by `X-Error-Code`, not by the status alone: without a token it
/// answers 401 for a repository that does not exist.
fn explain_status(status: u16, code: &str, file: Option<&str>, repo: &RepoId, settings: &Settings) -> Error {
    let (id, revision, endpoint) = (&repo.id, &repo.revision, &settings.endpoint);
    let token = if settings.token.is_some() {
        "use an HF_TOKEN that may read it"
    } else {
        "set HF_TOKEN to a token that may read it"
    };
    match (status, code) {
        (_, "RevisionNotFound") => anyhow!("{id} has no revision {revision} on {endpoint}: give one of its branches, tags or commits"),
        (_, "GatedRepo") | (403, _) => {
            anyhow!("{id} is gated (HTTP {status}): accept its terms at {endpoint}/{id} and {token}")
        }
        (401, _) => anyhow!("{id} does not exist on {endpoint} or is gated or private (HTTP 401): check the name, or {token}"),
        (404, _) if file.is_none() => {
            anyhow!("there is no repository {repo} on {endpoint} (HTTP 404): check the name; if it is private, {token}")
        }
        (429, _) => anyhow!("{endpoint} asks to slow down (HTTP 429) at {repo}: wait a few minutes and run again"),
        _ => {
            let file = file.map(|file| format!("/{file}")).unwrap_or_default();
            anyhow!("{endpoint} answered HTTP {status} for {repo}{file}: try again later")
        }
    }
}
