//! What threads do and what they wait for, recorded while somebody asks: spans, and a file of them for Perfetto or Chrome.
//!
//! Which spans are open is known at any time, so that a recording shows what began before it and what lasts beyond it, cut at its
//! edges. No clock is read, and nothing kept of a span that has ended, until [`record`] is called.

use std::cell::OnceCell;
use std::cmp::Reverse;
use std::fs;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

/// Most spans kept of one thread: what comes after is counted only.
const MOST: usize = 200_000;

/// When the recording that goes on began, nanoseconds; 0 while there is none.
static BEGAN: AtomicU64 = AtomicU64::new(0);
static LANES: Mutex<Vec<Arc<Lane>>> = Mutex::new(Vec::new());

thread_local! {
    static LANE: OnceCell<Arc<Lane>> = const { OnceCell::new() };
}

/// What one thread does. Others lock it only when a recording ends.
struct Lane(Mutex<Spans>);

struct Spans {
    /// Name of the thread.
    thread: String,
    /// Those that go on, the outermost first.
    open: Vec<Open>,
    done: Vec<Done>,
    left_out: u64,
}

/// A span that goes on: nanoseconds of the clock that all processes of a machine share, 0 if it began while nothing was recorded.
#[derive(Clone, Copy)]
struct Open {
    name: &'static str,
    start: u64,
}

/// A span that has ended.
struct Done {
    name: &'static str,
    start: u64,
    end: u64,
}

/// Call this thread so; else it is called as it was started.
pub fn name_thread(name: &str) {
    Lane::locked(|spans| spans.thread = name.into());
}

/// Something that a thread does until this is dropped, on the same thread.
pub struct Span {
    name: &'static str,
    of_one_thread: PhantomData<*const ()>,
}

/// Begin something of this name, in words a user knows.
#[inline]
pub fn span(name: &'static str) -> Span {
    let start = if BEGAN.load(Ordering::Relaxed) > 0 { now() } else { 0 };
    Lane::locked(|spans| spans.open.push(Open { name, start }));
    Span { name, of_one_thread: PhantomData }
}

impl Drop for Span {
    #[inline]
    fn drop(&mut self) {
        Lane::locked(|spans| spans.close(self.name));
    }
}

impl Spans {
    fn close(&mut self, name: &'static str) {
        let Some(at) = self.open.iter().rposition(|open| std::ptr::eq(open.name, name)) else { return };
        let Open { name, start } = self.open.remove(at);
        // Looked at under the lock: once the spans of a recording are taken, no more come.
        if BEGAN.load(Ordering::Relaxed) > 0 {
            if self.done.len() < MOST {
                self.done.push(Done { name, start, end: now() });
            } else {
                self.left_out += 1;
            }
        }
    }

    /// What was done between two times, in the order in which it began, what holds others before them; it is forgotten here.
    fn take(&mut self, [from, to]: [u64; 2]) -> Vec<Done> {
        let open = self.open.iter().map(|&Open { name, start }| Done { name, start, end: to });
        let all = open.chain(std::mem::take(&mut self.done));
        let cut = all.map(|Done { name, start, end }| Done { name, start: start.max(from), end: end.min(to) });
        let mut spans: Vec<Done> = cut.filter(|span| span.start < span.end).collect();
        spans.sort_by_key(|span| (span.start, Reverse(span.end)));
        spans
    }
}

impl Lane {
    /// Do something with the spans of this thread.
    #[inline]
    fn locked(act: impl FnOnce(&mut Spans)) {
        LANE.with(|lane| act(&mut lane.get_or_init(Self::of_this_thread).0.lock()));
    }

    #[cold]
    fn of_this_thread() -> Arc<Self> {
        let thread = thread::current().name().unwrap_or("thread").into();
        let lane = Arc::new(Self(Mutex::new(Spans { thread, open: Vec::new(), done: Vec::new(), left_out: 0 })));
        let mut lanes = LANES.lock();
        forget_ended(&mut lanes);
        lanes.push(lane.clone());
        lane
    }
}

/// Of threads that have ended only these are left; what they did while something is recorded is kept.
fn forget_ended(lanes: &mut Vec<Arc<Lane>>) {
    lanes.retain(|lane| Arc::strong_count(lane) > 1 || !lane.0.lock().done.is_empty());
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
    let from = now();
    if BEGAN.compare_exchange(0, from, Ordering::AcqRel, Ordering::Relaxed).is_err() {
        return Err(std::io::Error::other("a trace is being recorded already"));
    }
    let (path, process) = (file(run, process), process.to_string());
    let body = move || {
        thread::sleep(length);
        BEGAN.store(0, Ordering::Release);
        let to = from.saturating_add(u64::try_from(length.as_nanos()).unwrap_or(u64::MAX));
        end(write(&path, &events(&process, [from, to])));
    };
    let spawned = thread::Builder::new().name("trace".into()).spawn(body);
    spawned.map(drop).inspect_err(|_| BEGAN.store(0, Ordering::Release))
}

/// [`record`] in a process whose work matters more than a trace: what fails is told in its log only.
pub fn record_aside(run: &Path, process: &str, seconds: f64) {
    let length = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    log(record(run, process, length, log));
}

/// An end for [`record`] where nobody waits: a recording that failed is told in the log.
pub fn log(end: std::io::Result<()>) {
    if let Err(error) = end {
        tracing::warn!("no trace: {error}");
    }
}

/// The spans between two times, as events of the Chrome trace format: microseconds, with names of process and threads.
fn events(process: &str, times: [u64; 2]) -> Vec<Value> {
    let pid = std::process::id();
    let mut events = vec![json!({ "ph": "M", "name": "process_name", "pid": pid, "args": { "name": process } })];
    let mut lanes = LANES.lock();
    for (tid, lane) in lanes.iter().enumerate() {
        let mut spans = lane.0.lock();
        let left_out = std::mem::take(&mut spans.left_out);
        let rest = if left_out > 0 { format!(" ({left_out} spans left out)") } else { String::new() };
        let (name, taken) = (format!("{}{rest}", spans.thread), spans.take(times));
        drop(spans);
        events.push(json!({ "ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": { "name": name } }));
        events.extend(taken.iter().map(|Done { name, start, end }| {
            let (at, long) = (*start as f64 / 1e3, (end - start) as f64 / 1e3);
            json!({ "ph": "X", "name": name, "pid": pid, "tid": tid, "ts": at, "dur": long })
        }));
    }
    forget_ended(&mut lanes);
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
    use std::sync::mpsc::{Receiver, channel};

    /// One recording of a process at a time.
    static ALONE: Mutex<()> = Mutex::new(());

    /// Begin a recording; what tells of its end.
    fn begin(folder: &Path, length: Duration) -> Receiver<std::io::Result<()>> {
        let (ended, end) = channel();
        record(folder, "actor-3", length, move |result| ended.send(result).unwrap()).unwrap();
        end
    }

    /// What was recorded of these names: microseconds at which it began and that it lasted, in the order of the file.
    fn recorded(folder: &Path, names: &[&str]) -> Vec<(String, f64, f64)> {
        let text = fs::read_to_string(file(folder, "actor-3")).unwrap();
        let events: Vec<Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(events[0]["args"]["name"], "actor-3");
        let spans = events.iter().filter(|event| event["ph"] == "X");
        let spans = spans.map(|event| (event["name"].as_str().unwrap().to_string(), &event["ts"], &event["dur"]));
        let known = spans.filter(|(name, ..)| names.contains(&name.as_str()));
        known.map(|(name, ts, dur)| (name, ts.as_f64().unwrap(), dur.as_f64().unwrap())).collect()
    }

    #[test]
    fn spans_are_kept_while_recording_and_only_then() {
        let _alone = ALONE.lock();
        let folder = tempfile::tempdir().unwrap();
        drop(span("before"));
        let end = begin(folder.path(), Duration::from_millis(50));
        assert!(record(folder.path(), "actor-3", Duration::ZERO, |_| panic!("one is enough")).is_err());
        {
            let _outer = span("outer");
            drop(span("inner"));
        }
        end.recv_timeout(Duration::from_secs(60)).unwrap().unwrap();
        drop(span("after"));
        let spans = recorded(folder.path(), &["before", "outer", "inner", "after"]);
        assert_eq!(spans.iter().map(|span| span.0.as_str()).collect::<Vec<_>>(), ["outer", "inner"]);
        let ends = |(_, at, long): &(String, f64, f64)| at + long;
        assert!(spans[0].1 <= spans[1].1 && ends(&spans[1]) <= ends(&spans[0]) + 1e-3);
        assert_eq!(fs::read_dir(folder.path().join("trace")).unwrap().count(), 1, "nothing is left aside");
    }

    #[test]
    fn a_thread_that_waits_all_the_time_is_seen_waiting() {
        let _alone = ALONE.lock();
        let folder = tempfile::tempdir().unwrap();
        let (go_on, wait) = channel::<()>();
        let (begun, begins) = channel();
        let waiting = thread::spawn(move || {
            let (_outer, _inner) = (span("run"), span("wait for ever"));
            begun.send(()).unwrap();
            wait.recv().unwrap();
        });
        begins.recv().unwrap();
        // What is cut at the end of one recording goes on in the next.
        for length in [20, 30] {
            let end = begin(folder.path(), Duration::from_millis(length));
            end.recv_timeout(Duration::from_secs(60)).unwrap().unwrap();
            let spans = recorded(folder.path(), &["run", "wait for ever"]);
            assert_eq!(spans.iter().map(|span| span.0.as_str()).collect::<Vec<_>>(), ["run", "wait for ever"]);
            assert!(spans.iter().all(|(.., long)| (long - 1e3 * length as f64).abs() < 1.0), "{spans:?}");
            assert_eq!(spans[0].1, spans[1].1);
        }
        go_on.send(()).unwrap();
        waiting.join().unwrap();
    }

    #[test]
    fn spans_are_cut_at_the_edges_of_a_recording_and_those_outside_left_out() {
        let open = [("run", 0), ("wait", 0), ("began late", 150)].map(|(name, start)| Open { name, start });
        let done =
            [("over", 50, 90), ("inner", 130, 140), ("step", 120, 140), ("ended early", 0, 110), ("late", 201, 210)];
        let done = done.map(|(name, start, end)| Done { name, start, end });
        let mut spans = Spans { thread: "act".into(), open: open.to_vec(), done: done.into(), left_out: 0 };
        let taken = spans.take([100, 200]).into_iter().map(|Done { name, start, end }| (name, start, end));
        let expected =
            [("run", 100, 200), ("wait", 100, 200), ("ended early", 100, 110), ("step", 120, 140), ("inner", 130, 140)];
        assert_eq!(taken.collect::<Vec<_>>(), [&expected[..], &[("began late", 150, 200)]].concat());
        assert!(spans.done.is_empty() && spans.open.len() == 3, "what goes on is not over");
    }

    #[test]
    fn threads_that_have_ended_are_forgotten() {
        let _alone = ALONE.lock();
        let named = || LANES.lock().iter().filter(|lane| lane.0.lock().thread == "short-lived").count();
        for _ in 0..3 {
            thread::Builder::new().name("short-lived".into()).spawn(|| drop(span("a breath"))).unwrap().join().unwrap();
            assert!(named() <= 1);
        }
    }
}
