//! One file from the hub into the cache, taken up where an earlier attempt broke off.
//!
//! hf-hub brings the client (address, token, TLS, redirects that keep the token on the hub's own host) and the cache's
//! layout. Its own download is not used: it has no time-outs, takes whatever size arrives for the whole file, appends to a
//! part even where the server ignored the range, and asks for a range past the end once a part is whole. The protocol on
//! disk is still its own, so both share a cache: `BLOB.part` grows by appending, `BLOB.lock` is held meanwhile.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::api::sync::ApiRepo;
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Settings;
use super::fault::Fault;

/// How often a transfer that broke off is taken up within one run.
const RETRIES: u32 = 3;
/// A description that trickles in is given up after so many waits for an answer.
const MAX_WAITS: u32 = 6;
const RETRY_PAUSE: Duration = Duration::from_millis(500);
const BUFFER: usize = 256 * 1024;
/// A listing with sizes is some hundred bytes a file.
const MAX_LISTING: u64 = 64 << 20;

/// Requests about one repository at one revision.
pub(super) struct Client<'a> {
    pub(super) hub: &'a ApiRepo,
    pub(super) settings: &'a Settings,
}

/// A file to have in a snapshot.
pub(super) struct Wanted<'a> {
    /// Its name in the repository, fit for a URL.
    pub(super) name: &'a str,
    /// Its whole length in bytes, where the hub told it.
    pub(super) size: Option<u64>,
    /// Where its content is kept; without one it goes straight to `target`.
    pub(super) blob: Option<PathBuf>,
    /// Its place in the snapshot, a link to `blob`.
    pub(super) target: PathBuf,
}

/// The parts of an HTTP answer that are looked at.
struct Answer {
    status: u16,
    code: String,
    length: Option<u64>,
    /// First byte and whole length out of `Content-Range`.
    range: Option<(u64, Option<u64>)>,
    body: Box<dyn Read>,
}

impl Client<'_> {
    /// The body of the repository's description, with sizes and content ids.
    pub(super) fn listing(&self) -> Result<impl Read + use<>, Fault> {
        let answer = self.get(None, 0)?;
        match answer.status {
            200 => Ok(answer.body.take(MAX_LISTING)),
            status => Err(Fault::Status {
                status,
                code: answer.code,
                file: None,
            }),
        }
    }

    /// Has `wanted` in the snapshot, downloading what is missing of it.
    pub(super) fn fetch(&self, wanted: &Wanted) -> Result<(), Fault> {
        if is_whole(&wanted.target, wanted.size) {
            return Ok(());
        }
        let place = wanted.blob.as_deref().unwrap_or(&wanted.target);
        for folder in [place, &wanted.target].into_iter().filter_map(Path::parent) {
            std::fs::create_dir_all(folder).map_err(Fault::disk(folder))?;
        }
        let lock = lock(place, wanted.name)?;
        // Looked at under the lock: another process may have finished it meanwhile.
        if !is_whole(place, wanted.size) {
            let part = with_suffix(place, ".part");
            self.complete(wanted, &part)?;
            std::fs::rename(&part, place).map_err(Fault::disk(place))?;
        }
        if let Some(blob) = &wanted.blob {
            link(blob, &wanted.target).map_err(Fault::disk(&wanted.target))?;
        }
        drop(lock);
        Ok(())
    }

    /// Makes `part` the whole file.
    fn complete(&self, wanted: &Wanted, part: &Path) -> Result<(), Fault> {
        let mut retries = 0;
        loop {
            match self.attempt(wanted, part) {
                Err(Fault::Broken { .. }) if retries < RETRIES => {
                    retries += 1;
                    std::thread::sleep(RETRY_PAUSE);
                }
                outcome => return outcome,
            }
        }
    }

    fn attempt(&self, wanted: &Wanted, part: &Path) -> Result<(), Fault> {
        let mut file = OpenOptions::new().append(true).create(true).open(part).map_err(Fault::disk(part))?;
        let mut have = file.metadata().map_err(Fault::disk(part))?.len();
        if wanted.size.is_some_and(|size| have > size) {
            file.set_len(0).map_err(Fault::disk(part))?;
            have = 0;
        }
        if wanted.size == Some(have) {
            return Ok(());
        }
        let mut answer = self.get(Some(wanted.name), have)?;
        if answer.status == 416 {
            // The part is not a beginning of this file.
            file.set_len(0).map_err(Fault::disk(part))?;
            have = 0;
            answer = self.get(Some(wanted.name), have)?;
        }
        let size = match (answer.status, answer.range) {
            (206, Some((start, whole))) if start == have => whole,
            (200, _) => {
                if have > 0 {
                    file.set_len(0).map_err(Fault::disk(part))?;
                    have = 0;
                }
                answer.length
            }
            (206, _) => {
                return Err(Fault::Unusable(format!(
                    "the hub sent another part of {} than was asked for",
                    wanted.name
                )));
            }
            (status, _) => {
                return Err(Fault::Status {
                    status,
                    code: answer.code,
                    file: Some(wanted.name.to_owned()),
                });
            }
        };
        let size = wanted.size.or(size);
        let bar = self.bar(wanted.name, have, size);
        let outcome = copy(&mut answer.body, &mut file, &bar, have, size, wanted.name, part);
        bar.finish_and_clear();
        outcome?;
        file.sync_all().map_err(Fault::disk(part))
    }

    /// Asks for a file of the repository from byte `from` on, or without a name for its description.
    ///
    /// hf-hub gives out a request for the description only; it carries the token and the client, and its address can be
    /// changed.
    fn get(&self, file: Option<&str>, from: u64) -> Result<Answer, Fault> {
        let settings = self.settings;
        let mut request = self.hub.info_request();
        let (silence, whole) = match file {
            Some(name) => {
                request = request.uri(self.hub.url(name)).header("Accept-Encoding", "identity");
                if from > 0 {
                    request = request.header("Range", format!("bytes={from}-"));
                }
                (settings.stall_timeout, None)
            }
            None => {
                request = request.query("blobs", "true");
                (settings.answer_timeout, Some(settings.answer_timeout * MAX_WAITS))
            }
        };
        let request = request
            .config()
            .http_status_as_error(false)
            .timeout_global(whole)
            .timeout_resolve(Some(settings.answer_timeout))
            .timeout_connect(Some(settings.answer_timeout))
            .timeout_recv_response(Some(silence))
            .timeout_per_read(Some(silence))
            .timeout_per_write(Some(silence))
            .build();
        let response = request.call().map_err(|err| Fault::Unreachable(err.to_string()))?;
        let header = |name: &str| {
            response
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let (code, length, range) = (header("X-Error-Code"), header("Content-Length"), header("Content-Range"));
        Ok(Answer {
            status: response.status().as_u16(),
            code: code.unwrap_or_default(),
            length: length.and_then(|text| text.parse().ok()),
            range: range.as_deref().and_then(parse_range),
            body: Box::new(response.into_body().into_reader()),
        })
    }

    /// A bar on standard error; hidden where that is no terminal, which then gets one line per file.
    fn bar(&self, name: &str, have: u64, size: Option<u64>) -> ProgressBar {
        if !self.settings.progress {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::with_draw_target(size, ProgressDrawTarget::stderr()).with_message(name.to_owned());
        if bar.is_hidden() {
            let of = size.map(|size| format!(" ({})", HumanBytes(size))).unwrap_or_default();
            eprintln!("downloading {name}{of}");
        }
        let template = "{msg} [{bar:24}] {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_position(have);
        // The rate is that of this run, not of what an earlier one left.
        bar.reset_eta();
        bar
    }
}

/// Appends `body` to `file` until `size` bytes are there, or the body's end where the size is not known.
fn copy(
    body: &mut dyn Read,
    file: &mut File,
    bar: &ProgressBar,
    mut have: u64,
    size: Option<u64>,
    name: &str,
    part: &Path,
) -> Result<(), Fault> {
    let broken = |have: u64, why: String| Fault::Broken {
        file: name.to_owned(),
        have,
        size,
        why,
    };
    let mut buffer = vec![0; BUFFER];
    loop {
        let n = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(err) => return Err(broken(have, err.to_string())),
        };
        if size.is_some_and(|size| have + n as u64 > size) {
            file.set_len(0).map_err(Fault::disk(part))?;
            return Err(Fault::Unusable(format!(
                "the hub sent more than the {} bytes that {name} has: try again",
                size.unwrap_or(0)
            )));
        }
        file.write_all(&buffer[..n]).map_err(Fault::disk(part))?;
        have += n as u64;
        bar.inc(n as u64);
    }
    match size {
        Some(size) if have < size => Err(broken(have, "the connection closed early".to_owned())),
        _ => Ok(()),
    }
}

/// Reads `bytes 5-9/10`, whose length may be `*`.
fn parse_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, whole) = text.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.trim().parse().ok()?, whole.trim().parse().ok()))
}

/// True for a file of `size` bytes, or of any where the size is not known: a file gets its name only once it is whole.
fn is_whole(path: &Path, size: Option<u64>) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && size.is_none_or(|size| meta.len() == size))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Keeps other processes from appending to the same part. A file system without locks is used without.
fn lock(place: &Path, name: &str) -> Result<File, Fault> {
    let path = with_suffix(place, ".lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(Fault::disk(&path))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(Fault::Unusable(format!(
            "another program is downloading {name} at this moment: wait for it, then run again"
        ))),
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

/// Puts `blob` into the snapshot as a relative link; where links cannot be made (Windows without the right, some file
/// systems), moves it there, as every reader of this cache expects.
fn link(blob: &Path, target: &Path) -> io::Result<()> {
    if target.symlink_metadata().is_ok() {
        std::fs::remove_file(target)?;
    }
    // From snapshots/COMMIT/FILE to blobs/ID.
    let relative = Path::new("..").join("..").join("blobs").join(blob.file_name().unwrap_or_default());
    #[cfg(unix)]
    let linked = std::os::unix::fs::symlink(&relative, target);
    #[cfg(windows)]
    let linked = std::os::windows::fs::symlink_file(&relative, target);
    #[cfg(not(any(unix, windows)))]
    let linked: io::Result<()> = Err(io::ErrorKind::Unsupported.into());
    linked.or_else(|_| std::fs::rename(blob, target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read() {
        assert_eq!(parse_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(parse_range("bytes 0-0/*"), Some((0, None)));
        assert_eq!(parse_range("bytes */10"), None);
        assert_eq!(parse_range("lines 5-9/10"), None);
    }
}
