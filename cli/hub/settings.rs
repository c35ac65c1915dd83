//! The hub's settings, read from the same environment variables as Hugging Face's own tools.
//!
//! hf-hub 0.5 knows `HF_HOME` and `HF_ENDPOINT` only, and panics where there is no home folder; so the variables are read
//! here and handed to it. Variables are looked up through a function, which lets a test bring its own environment.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
/// Longest wait for the answer about a repository; huggingface_hub's default.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence within a download. Three times huggingface_hub's: a store may think for long before its first byte.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Where the hub is, where its files are kept, and how long to wait for it.
#[derive(Clone)]
pub(crate) struct Settings {
    /// The cache: `HF_HUB_CACHE`, or `hub` below `HF_HOME`, or `~/.cache/huggingface/hub`.
    pub(crate) cache: PathBuf,
    /// `HF_ENDPOINT` without a slash at its end, or the public hub.
    pub(crate) endpoint: String,
    /// `HF_TOKEN`, or what the file at `HF_TOKEN_PATH` or at `token` below `HF_HOME` holds. Never printed.
    pub(crate) token: Option<String>,
    /// `HF_HUB_OFFLINE`: the network is not touched.
    pub(crate) offline: bool,
    /// `HF_HUB_ETAG_TIMEOUT` (seconds): longest wait for a connection and for an answer about a repository.
    pub(crate) answer_timeout: Duration,
    /// `HF_HUB_DOWNLOAD_TIMEOUT` (seconds): longest silence of a download.
    pub(crate) stall_timeout: Duration,
    /// Show a bar per file.
    pub(crate) progress: bool,
}

impl Settings {
    /// Settings from this process's environment.
    ///
    /// # Errors
    /// A variable holds what cannot be used, or no cache folder is known; the sentence names the variable.
    pub(crate) fn from_env(progress: bool) -> Result<Self> {
        Self::from_lookup(
            &|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()),
            progress,
        )
    }

    /// Settings from `lookup`, which gives a variable's value; an empty value counts as none.
    ///
    /// # Errors
    /// As [`Settings::from_env`].
    pub(crate) fn from_lookup(lookup: &dyn Fn(&str) -> Option<String>, progress: bool) -> Result<Self> {
        let var = |name: &str| lookup(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let home = hf_home(&var);
        let Some(cache) = var("HF_HUB_CACHE")
            .map(PathBuf::from)
            .or_else(|| home.as_ref().map(|home| home.join("hub")))
        else {
            bail!("no home folder is known to keep downloads in: set HF_HOME to a folder");
        };
        let token_file = var("HF_TOKEN_PATH")
            .map(PathBuf::from)
            .or_else(|| home.map(|home| home.join("token")));
        let token = var("HF_TOKEN").or_else(|| {
            let text = std::fs::read_to_string(token_file?).ok()?;
            Some(text.trim().to_owned()).filter(|token| !token.is_empty())
        });
        if token.as_ref().is_some_and(|token| !token.chars().all(|c| c.is_ascii_graphic())) {
            bail!("the Hugging Face token has characters that no token has: check HF_TOKEN and the token file");
        }
        let endpoint = var("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        Ok(Self {
            cache: std::path::absolute(&cache).unwrap_or(cache),
            endpoint: checked_endpoint(&endpoint)?,
            token,
            offline: var("HF_HUB_OFFLINE").is_some_and(|value| is_true(&value)),
            answer_timeout: seconds(&var, "HF_HUB_ETAG_TIMEOUT")?.unwrap_or(ANSWER_TIMEOUT),
            stall_timeout: seconds(&var, "HF_HUB_DOWNLOAD_TIMEOUT")?.unwrap_or(STALL_TIMEOUT),
            progress,
        })
    }
}

/// `HF_HOME`, or `huggingface` below the user's cache folder.
fn hf_home(var: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    if let Some(home) = var("HF_HOME") {
        return Some(home.into());
    }
    let cache = var("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))?;
    Some(cache.join("huggingface"))
}

fn checked_endpoint(endpoint: &str) -> Result<String> {
    let endpoint = endpoint.trim_end_matches('/');
    let host = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
    let usable = host.is_some_and(|host| !host.is_empty() && host.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '@')));
    if !usable {
        bail!("HF_ENDPOINT is {endpoint:?}, which is no address: set it to http:// or https:// and a host, or unset it");
    }
    Ok(endpoint.to_owned())
}

/// What huggingface_hub takes for a yes.
fn is_true(value: &str) -> bool {
    ["1", "true", "yes", "on"].iter().any(|yes| value.eq_ignore_ascii_case(yes))
}

fn seconds(var: &dyn Fn(&str) -> Option<String>, name: &str) -> Result<Option<Duration>> {
    let Some(text) = var(name) else { return Ok(None) };
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= 86_400.0 => Ok(Some(Duration::from_secs_f64(value))),
        _ => bail!("{name} is {text:?}: set it to a number of seconds between 0 and 86400, or unset it"),
    }
}
