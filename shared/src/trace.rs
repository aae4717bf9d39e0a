//! What threads do and what they wait for, recorded while somebody asks: spans, and a file of them for Perfetto or Chrome.
//!
//! Nothing is recorded until [`record`] is called; until then a [`span`] costs a look at one number.

use std::cell::OnceCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

/// Most spans kept of one thread: what comes after is counted only.
const MOST: usize = 200_000;

static RECORDING: AtomicBool = AtomicBool::new(false);
static LANES: Mutex<Vec<Arc<Lane>>> = Mutex::new(Vec::new());

thread_local! {
    static LANE: OnceCell<Arc<Lane>> = const { OnceCell::new() };
}

/// The spans of one thread.
struct Lane {
    name: String,
    spans: Mutex<Spans>,
}

#[derive(Default)]
struct Spans {
    done: Vec<Done>,
    left_out: u64,
}

/// A span that has ended: nanoseconds of the clock that all processes of a machine share.
struct Done {
    name: &'static str,
    start: u64,
    end: u64,
}

/// Call this thread so; else it is called as it was started.
pub fn name_thread(name: &str) {
    LANE.with(|lane| drop(lane.set(Lane::new(name))));
}

/// Something that a thread does until this is dropped.
pub struct Span {
    name: &'static str,
    start: Option<u64>,
}

/// Begin something of this name, in words a user knows.
#[inline]
pub fn span(name: &'static str) -> Span {
    Span { name, start: RECORDING.load(Ordering::Relaxed).then(now) }
}

impl Drop for Span {
    #[inline]
    fn drop(&mut self) {
        if let Some(start) = self.start {
            keep(Done { name: self.name, start, end: now() });
        }
    }
}

/// One that began before the recording was asked for is not known, and one that ends after it is let go.
fn keep(done: Done) {
    if !RECORDING.load(Ordering::Relaxed) {
        return;
    }
    LANE.with(|lane| {
        let mut spans = lane.get_or_init(Lane::of_this_thread).spans.lock();
        if spans.done.len() < MOST { spans.done.push(done) } else { spans.left_out += 1 }
    });
}

impl Lane {
    fn of_this_thread() -> Arc<Self> {
        Self::new(thread::current().name().unwrap_or("thread"))
    }

    fn new(name: &str) -> Arc<Self> {
        let lane = Arc::new(Self { name: name.into(), spans: Mutex::default() });
        LANES.lock().push(lane.clone());
        lane
    }
}

fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Where the spans of a process lie, below a run folder.
pub fn file(run: &Path, process: &str) -> PathBuf {
    run.join("trace").join(format!("{process}.json"))
}

/// Record for so long, on a thread of its own, then write the spans of process `process` to [its file](file) and call `end` with what
/// came of it. An error if a recording goes on already.
pub fn record(
    run: &Path,
    process: &str,
    length: Duration,
    end: impl FnOnce(std::io::Result<()>) + Send + 'static,
) -> std::io::Result<()> {
    if RECORDING.swap(true, Ordering::AcqRel) {
        return Err(std::io::Error::other("a trace is being recorded already"));
    }
    let (path, process) = (file(run, process), process.to_string());
    let body = move || {
        thread::sleep(length);
        RECORDING.store(false, Ordering::Release);
        end(write(&path, &events(&process)));
    };
    let spawned = thread::Builder::new().name("trace".into()).spawn(body);
    spawned.map(drop).inspect_err(|_| RECORDING.store(false, Ordering::Release))
}

/// The spans so far, as events of the Chrome trace format: microseconds, with names of process and threads. They are forgotten here.
fn events(process: &str) -> Vec<Value> {
    let pid = std::process::id();
    let mut events = vec![json!({ "ph": "M", "name": "process_name", "pid": pid, "args": { "name": process } })];
    // Of threads that have ended only these are left.
    LANES.lock().retain(|lane| Arc::strong_count(lane) > 1 || !lane.spans.lock().done.is_empty());
    for (tid, lane) in LANES.lock().iter().enumerate() {
        let Spans { done, left_out } = std::mem::take(&mut *lane.spans.lock());
        let rest = if left_out > 0 { format!(" ({left_out} spans left out)") } else { String::new() };
        let name = format!("{}{rest}", lane.name);
        events.push(json!({ "ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": { "name": name } }));
        events.extend(done.iter().map(|Done { name, start, end }| {
            let (at, long) = (*start as f64 / 1e3, (end - start) as f64 / 1e3);
            json!({ "ph": "X", "name": name, "pid": pid, "tid": tid, "ts": at, "dur": long })
        }));
    }
    events
}

/// Whole or not at all: whoever waits for the file finds all of it.
fn write(path: &Path, events: &[Value]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let aside = path.with_extension("tmp");
    fs::write(&aside, serde_json::to_vec(events)?)?;
    fs::rename(aside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_kept_while_recording_and_only_then() {
        let folder = tempfile::tempdir().unwrap();
        drop(span("before"));
        let (ended, end) = std::sync::mpsc::channel();
        record(folder.path(), "actor-3", Duration::from_millis(50), move |result| ended.send(result).unwrap()).unwrap();
        assert!(record(folder.path(), "actor-3", Duration::ZERO, |_| panic!("one is enough")).is_err());
        {
            let _outer = span("outer");
            drop(span("inner"));
        }
        end.recv_timeout(Duration::from_secs(60)).unwrap().unwrap();
        drop(span("after"));
        let text = fs::read_to_string(file(folder.path(), "actor-3")).unwrap();
        let events: Vec<Value> = serde_json::from_str(&text).unwrap();
        let of = |name: &str| events.iter().find(|event| event["ph"] == "X" && event["name"] == name);
        let (outer, inner) = (of("outer").unwrap(), of("inner").unwrap());
        let ends = |event: &Value| event["ts"].as_f64().unwrap() + event["dur"].as_f64().unwrap();
        assert!(outer["ts"].as_f64() <= inner["ts"].as_f64() && ends(inner) <= ends(outer) + 1e-3);
        assert!(of("before").is_none() && of("after").is_none());
        assert_eq!(events[0]["args"]["name"], "actor-3");
        assert_eq!(fs::read_dir(folder.path().join("trace")).unwrap().count(), 1, "nothing is left aside");
    }
}
