//! A hub on this machine, with the faults that a test wants.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;

use crate::vit::download::sha256;

/// Of its model.
pub const COMMIT: &str = "c0ffee";

/// What the hub answers with.
#[derive(Default)]
pub struct State {
    pub files: BTreeMap<String, Vec<u8>>,
    /// Digests that it tells instead of the true ones.
    pub lies: BTreeMap<String, String>,
    /// Refuses everything with it.
    pub status: Option<u16>,
    /// After how many bytes the next answers with large files end.
    pub cuts: Vec<usize>,
    /// Answers a request for a range with everything.
    pub whole: bool,
    /// Each answered request for a file: its name and first byte.
    pub asked: Vec<(String, usize)>,
    /// The last request's token.
    pub token: Option<String>,
}

/// A hub with one model, `owner/model`, of one commit.
#[derive(Clone)]
pub struct TestHub {
    pub endpoint: String,
    pub state: Arc<Mutex<State>>,
}

impl TestHub {
    pub fn with(files: &[(&str, &[u8])]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let files = files.iter().map(|(name, bytes)| (name.to_string(), bytes.to_vec())).collect();
        let state = Arc::new(Mutex::new(State { files, ..State::default() }));
        let hub = Self { endpoint: format!("http://{}", listener.local_addr().unwrap()), state };
        let served = hub.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that gave up is no concern of the hub's.
                let _ = served.serve(&mut stream.unwrap());
            }
        });
        hub
    }

    fn serve(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        let lines = BufReader::new(stream.try_clone()?).lines().map_while(Result::ok);
        let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        let header = |name: &str| head.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let path = head[0].split(' ').nth(1).unwrap();
        let from = header("range").map(|range| range["bytes=".len()..].trim_end_matches('-').parse().unwrap());
        let mut state = self.state.lock();
        state.token = header("authorization").map(String::from);
        let (status, body) = match (state.status, path.strip_prefix(&format!("/owner/model/resolve/{COMMIT}/"))) {
            (Some(status), _) => (status, vec![]),
            (None, None) if path == "/api/models/owner/model/revision/main?blobs=true" => (200, state.listing()),
            (None, Some(name)) if state.files.contains_key(name) => return state.send(stream, name, from),
            _ => (404, vec![]),
        };
        respond(stream, status, &body, body.len())
    }
}

fn respond(stream: &mut TcpStream, status: u16, body: &[u8], announced: usize) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status} x\r\ncontent-length: {announced}\r\nconnection: close\r\n\r\n")?;
    stream.write_all(body)
}

impl State {
    fn listing(&self) -> Vec<u8> {
        let file = |(name, bytes): (&String, &Vec<u8>)| {
            let mut file = serde_json::json!({ "rfilename": name, "size": bytes.len() });
            if !name.ends_with(".json") {
                let digest = self.lies.get(name).cloned().unwrap_or_else(|| digest(bytes));
                file["lfs"] = serde_json::json!({ "sha256": digest, "size": bytes.len(), "pointerSize": 1 });
            }
            file
        };
        let siblings: Vec<_> = self.files.iter().map(file).collect();
        serde_json::json!({ "id": "owner/model", "sha": COMMIT, "siblings": siblings }).to_string().into_bytes()
    }

    fn send(&mut self, stream: &mut TcpStream, name: &str, from: Option<usize>) -> std::io::Result<()> {
        let from = from.filter(|_| !self.whole);
        let body = &self.files[name][from.unwrap_or(0)..];
        self.asked.push((name.into(), from.unwrap_or(0)));
        let cut = if name == "config.json" || self.cuts.is_empty() { body.len() } else { self.cuts.remove(0) };
        respond(stream, if from.is_some() { 206 } else { 200 }, &body[..cut], body.len())
    }
}

pub fn digest(bytes: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    sha256(file.path()).unwrap()
}
