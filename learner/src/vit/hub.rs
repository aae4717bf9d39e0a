//! Downloading from the Hugging Face hub.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use hf_hub::api::Progress;
use hf_hub::api::sync::ApiBuilder;

use super::Event;

const FILE: &str = "model.safetensors";
/// The client has no limit for connecting, and machines without a way out often drop packets silently.
const BEGIN: Duration = Duration::from_secs(4);
/// Between two pieces, once bytes have come.
const STALL: Duration = Duration::from_secs(60);

enum Message {
    Bytes { done: u64, total: u64 },
    End(Result<PathBuf, String>),
}

/// Whether the hub's own variable forbids the network.
pub(super) fn offline() -> bool {
    let value = std::env::var("HF_HUB_OFFLINE").unwrap_or_default().to_ascii_lowercase();
    ["1", "true", "yes", "on"].contains(&value.as_str())
}

/// The weights of a model, in the hub's own cache. The thread that downloads is left behind when it is given up.
pub(super) fn download(model: &'static str, progress: &mut dyn FnMut(Event)) -> Result<PathBuf, String> {
    let (sender, messages) = channel();
    let work = move || {
        let end = run(model, sender.clone());
        // The receiver may have given up: then nobody waits for the end.
        let _ = sender.send(Message::End(end));
    };
    thread::Builder::new().name("hub".into()).spawn(work).map_err(|e| format!("cannot start a thread: {e}"))?;
    follow(&messages, BEGIN, STALL, progress)
}

fn run(model: &str, sender: Sender<Message>) -> Result<PathBuf, String> {
    let api = ApiBuilder::from_env().with_progress(false).build().map_err(|e| e.to_string())?;
    let counter = Counter { sender, done: 0, total: 0 };
    api.model(model.into()).download_with_progress(FILE, counter).map_err(|e| e.to_string())
}

fn follow(
    messages: &Receiver<Message>,
    begin: Duration,
    stall: Duration,
    progress: &mut dyn FnMut(Event),
) -> Result<PathBuf, String> {
    let mut limit = begin;
    loop {
        match messages.recv_timeout(limit) {
            Ok(Message::Bytes { done, total }) => progress(Event::Bytes { done, total }),
            Ok(Message::End(end)) => return end,
            Err(RecvTimeoutError::Timeout) => return Err(format!("nothing came for {} seconds", limit.as_secs())),
            Err(RecvTimeoutError::Disconnected) => return Err("the download ended early".into()),
        }
        limit = stall;
    }
}

/// Reports at each hundredth.
struct Counter {
    sender: Sender<Message>,
    done: u64,
    total: u64,
}

impl Counter {
    fn report(&self) {
        // The receiver may have given up.
        let _ = self.sender.send(Message::Bytes { done: self.done, total: self.total });
    }
}

impl Progress for Counter {
    fn init(&mut self, size: usize, _: &str) {
        self.total = size as u64;
        self.report();
    }

    fn update(&mut self, size: usize) {
        let percent = |done: u64| done * 100 / self.total.max(1);
        let before = percent(self.done);
        self.done += size as u64;
        if percent(self.done) > before {
            self.report();
        }
    }

    fn finish(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vit_hub_gives_up_when_nothing_comes() {
        let (_sender, messages) = channel();
        let error = follow(&messages, Duration::ZERO, STALL, &mut |_| panic!("no bytes")).unwrap_err();
        assert_eq!(error, "nothing came for 0 seconds");
    }

    #[test]
    fn vit_hub_reports_each_hundredth_and_the_end() {
        let (sender, messages) = channel();
        let mut counter = Counter { sender: sender.clone(), done: 0, total: 0 };
        counter.init(1000, FILE);
        (0..4).for_each(|_| counter.update(5));
        sender.send(Message::End(Ok("file".into()))).unwrap();
        let mut seen = Vec::new();
        let end = follow(&messages, STALL, STALL, &mut |e| seen.push(e));
        assert_eq!(end.unwrap(), PathBuf::from("file"));
        assert_eq!(seen, [0, 10, 20].map(|done| Event::Bytes { done, total: 1000 }));
    }
}
