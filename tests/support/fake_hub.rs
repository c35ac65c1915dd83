//! A Hugging Face hub small enough for a test: HTTP/1.1 over std on 127.0.0.1, one repository, faults by order.
//!
//! It plays what the client under test relies on: the repository's description, files with ranges, weights behind a
//! redirect to another host name (as the real hub sends them to its store), and errors with their `X-Error-Code`. Every
//! request is written down, so that a test can tell what was fetched and what was not.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The commit that every revision of the fake repository points to.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What goes wrong with a request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// An answer with this status and this `X-Error-Code`.
    Status(u16, &'static str),
    /// The right headers, then the connection closes after so many bytes of the body.
    DropAfter(usize),
    /// The right headers, so many bytes, then silence.
    StallAfter(usize),
    /// The request is read and never answered.
    Silence,
    /// The range is ignored: the whole file with status 200.
    IgnoreRange,
    /// A whole answer of this body instead of the right one.
    Body(Vec<u8>),
}

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET` or `HEAD`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// First byte of the range asked for.
    pub from: Option<usize>,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// The `Host` header.
    pub host: String,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    revisions: Vec<String>,
    faults: Vec<(String, Fault, usize)>,
    requests: Vec<Request>,
    bare: bool,
}

/// A running hub; its thread ends with the test's process.
pub struct FakeHub {
    port: u16,
    repo: String,
    state: Arc<Mutex<State>>,
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FakeHub {
    /// Starts a hub with the repository `repo`, which has these files on the branch `main`.
    pub fn start(repo: &str, files: &[(&str, &[u8])]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a bound socket").port();
        let files = files.iter().map(|(name, body)| ((*name).to_owned(), body.to_vec())).collect();
        let state = Arc::new(Mutex::new(State {
            files,
            revisions: vec!["main".into(), COMMIT.into()],
            ..State::default()
        }));
        let hub = Self {
            port,
            repo: repo.to_owned(),
            state,
        };
        // The store's name, localhost, may mean ::1 first; where there is no IPv6, nobody asks for it.
        for listener in [Some(listener), TcpListener::bind(("::1", port)).ok()].into_iter().flatten() {
            hub.listen(listener);
        }
        hub
    }

    fn listen(&self, listener: TcpListener) {
        let (port, state, repo) = (self.port, self.state.clone(), self.repo.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, repo) = (state.clone(), repo.clone());
                // One connection, one thread: a stalled one must not hold up the others.
                thread::spawn(move || serve(stream, port, &repo, &state));
            }
        });
    }

    /// The value for `HF_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Adds a branch or tag.
    pub fn add_revision(&self, name: &str) {
        locked(&self.state).revisions.push(name.to_owned());
    }

    /// Describes files by name only, as a plain mirror does: no sizes, no content ids.
    pub fn describe_names_only(&self) {
        locked(&self.state).bare = true;
    }

    /// The next `times` requests whose path contains `part` fail so.
    pub fn fail(&self, part: &str, fault: Fault, times: usize) {
        locked(&self.state).faults.push((part.to_owned(), fault, times));
    }

    /// Takes all faults back.
    pub fn heal(&self) {
        locked(&self.state).faults.clear();
    }

    /// The requests since the last call.
    pub fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut locked(&self.state).requests)
    }
}

/// A content id for a file, in hex like the hub's: 40 digits, or 64 for weights.
fn content_id(name: &str, body: &[u8]) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in name.bytes().chain(body.iter().copied()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    if is_weights(name) {
        format!("{hash:064x}")
    } else {
        format!("{hash:040x}")
    }
}

fn is_weights(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".bin")
}

fn serve(mut stream: TcpStream, port: u16, repo: &str, state: &Mutex<State>) {
    let Ok(clone) = stream.try_clone() else { return };
    let mut reader = BufReader::new(clone);
    while let Some(request) = read_request(&mut reader) {
        let fault = {
            let mut state = locked(state);
            state.requests.push(request.clone());
            let hit = state
                .faults
                .iter_mut()
                .find(|(part, _, times)| *times > 0 && request.path.contains(part.as_str()));
            hit.map(|(_, fault, times)| {
                *times -= 1;
                fault.clone()
            })
        };
        let answer = answer(&request, port, repo, state, fault.as_ref());
        if write_answer(&mut stream, &request, answer, fault.as_ref()).is_none() {
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut request = Request {
        method,
        path,
        from: None,
        authorization: None,
        host: String::new(),
    };
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok().filter(|n| *n > 0)?;
        let Some((name, value)) = header.trim_end().split_once(':') else {
            return Some(request);
        };
        let value = value.trim().to_owned();
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                request.from = value
                    .strip_prefix("bytes=")
                    .and_then(|range| range.trim_end_matches('-').parse().ok())
            }
            "authorization" => request.authorization = Some(value),
            "host" => request.host = value,
            _ => {}
        }
    }
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn error(status: u16, code: &str) -> Self {
        Self {
            status,
            headers: vec![("X-Error-Code", code.to_owned())],
            body: b"{\"error\":\"no\"}".to_vec(),
        }
    }
}

fn answer(request: &Request, port: u16, repo: &str, state: &Mutex<State>, fault: Option<&Fault>) -> Answer {
    match fault {
        Some(Fault::Status(status, code)) => return Answer::error(*status, code),
        Some(Fault::Body(body)) => {
            return Answer {
                status: 200,
                headers: vec![],
                body: body.clone(),
            };
        }
        _ => {}
    }
    let state = locked(state);
    let path = request.path.split('?').next().unwrap_or_default();
    if let Some(revision) = path.strip_prefix(&format!("/api/models/{repo}/revision/")) {
        return describe(&state, &revision.replace("%2F", "/"), request.path.contains("blobs=true"));
    }
    let stored = path.strip_prefix("/store/");
    let Some(file) = path.strip_prefix(&format!("/{repo}/resolve/")).or(stored) else {
        return Answer::error(404, "RepoNotFound");
    };
    let (revision, name) = file.split_once('/').unwrap_or_default();
    if !state.revisions.iter().any(|known| *known == revision.replace("%2F", "/")) {
        return Answer::error(404, "RevisionNotFound");
    }
    let Some(body) = state.files.get(name) else {
        return Answer::error(404, "EntryNotFound");
    };
    let etag = ("ETag", format!("\"{}\"", content_id(name, body)));
    let commit = ("X-Repo-Commit", COMMIT.to_owned());
    if is_weights(name) && stored.is_none() {
        // Another host name for the same machine, as the store is another host to the client.
        let location = format!("http://localhost:{port}/store/{revision}/{name}");
        return Answer {
            status: 302,
            headers: vec![etag, commit, ("Location", location)],
            body: vec![],
        };
    }
    ranged(request, body, vec![etag, commit, ("Accept-Ranges", "bytes".to_owned())], fault)
}

fn ranged(request: &Request, body: &[u8], mut headers: Vec<(&'static str, String)>, fault: Option<&Fault>) -> Answer {
    let len = body.len();
    match request.from {
        Some(from) if from >= len => Answer {
            status: 416,
            headers: vec![("Content-Range", format!("bytes */{len}"))],
            body: vec![],
        },
        Some(from) if !matches!(fault, Some(Fault::IgnoreRange)) => {
            headers.push(("Content-Range", format!("bytes {from}-{}/{len}", len - 1)));
            Answer {
                status: 206,
                headers,
                body: body[from..].to_vec(),
            }
        }
        _ => Answer {
            status: 200,
            headers,
            body: body.to_vec(),
        },
    }
}

fn describe(state: &State, revision: &str, with_blobs: bool) -> Answer {
    if !state.revisions.iter().any(|known| known == revision) {
        return Answer::error(404, "RevisionNotFound");
    }
    let file = |(name, body): (&String, &Vec<u8>)| {
        let (id, size) = (content_id(name, body), body.len());
        match (with_blobs && !state.bare, is_weights(name)) {
            (false, _) => format!(r#"{{"rfilename":"{name}"}}"#),
            (true, false) => format!(r#"{{"rfilename":"{name}","blobId":"{id}","size":{size}}}"#),
            // For weights the git blob is a pointer file; the content is named by its own hash.
            (true, true) => {
                let pointer = &id[..40];
                format!(
                    r#"{{"rfilename":"{name}","blobId":"{pointer}","size":{size},"lfs":{{"sha256":"{id}","size":{size},"pointerSize":134}}}}"#
                )
            }
        }
    };
    let files: Vec<String> = state.files.iter().map(file).collect();
    let body = format!(r#"{{"id":"x","sha":"{COMMIT}","siblings":[{}]}}"#, files.join(","));
    Answer {
        status: 200,
        headers: vec![("Content-Type", "application/json".to_owned())],
        body: body.into_bytes(),
    }
}

/// Writes the answer, or as much as the fault lets through; `None` ends the connection.
fn write_answer(stream: &mut TcpStream, request: &Request, answer: Answer, fault: Option<&Fault>) -> Option<()> {
    if matches!(fault, Some(Fault::Silence)) {
        thread::sleep(Duration::from_secs(60));
        return None;
    }
    let mut head = format!("HTTP/1.1 {} x\r\nContent-Length: {}\r\n", answer.status, answer.body.len());
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
    let body = if request.method == "HEAD" { &[] } else { answer.body.as_slice() };
    match fault {
        // A redirect has no body to break; the fault strikes in the store.
        Some(Fault::DropAfter(n)) if *n < body.len() => {
            stream.write_all(&body[..*n]).ok()?;
            None
        }
        Some(Fault::StallAfter(n)) if *n < body.len() => {
            stream.write_all(&body[..*n]).ok()?;
            stream.flush().ok()?;
            thread::sleep(Duration::from_secs(60));
            None
        }
        _ => stream.write_all(body).ok(),
    }
}
