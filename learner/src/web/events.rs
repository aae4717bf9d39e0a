//! Words about the run as server-sent events. A visitor who does not read misses words and is never waited for.

use std::convert::Infallible;
use std::sync::Arc;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use crossbeam::channel::Receiver;
use futures_util::{StreamExt, stream};
use shared::trace::span;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, broadcast};

use crate::control::Word;

/// Words that may wait for a visitor before some are missed.
const WAITING: usize = 16;

/// A word as JSON.
pub type Text = Arc<str>;

/// Where words come in, and where visitors join; what joins does not keep the channel open.
pub fn channel() -> (broadcast::Sender<Text>, broadcast::WeakSender<Text>) {
    let (sender, _) = broadcast::channel(WAITING);
    let weak = sender.downgrade();
    (sender, weak)
}

/// Pass on what the hub has told, until `quiet` closes; what it told before that is passed on still.
pub fn bridge(told: &Receiver<Arc<Word>>, words: &broadcast::Sender<Text>, quiet: &Receiver<()>) {
    let pass = |word: Arc<Word>| {
        let _span = span("tell the page");
        if let Some(text) = text(&word) {
            // Without visitors there is nobody to tell.
            let _ = words.send(text);
        }
    };
    loop {
        crossbeam::select! {
            recv(told) -> word => match word {
                Ok(word) => pass(word),
                Err(_) => return,
            },
            recv(quiet) -> _ => return told.try_iter().for_each(pass),
        }
    }
}

/// As JSON, in which a number that is not finite is null.
pub fn text(word: &Word) -> Option<Text> {
    serde_json::to_string(word).map(Text::from).map_err(|error| tracing::warn!("a word for the page: {error}")).ok()
}

/// What is known, then what comes, until the channel closes; `place` is held for as long.
pub fn stream(known: Vec<Text>, live: broadcast::Receiver<Text>, place: OwnedSemaphorePermit) -> Response {
    let news = stream::unfold((live, place), |(mut live, place)| async move {
        loop {
            match live.recv().await {
                Ok(word) => return Some((word, (live, place))),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    });
    let events = stream::iter(known).chain(news).map(|word| Ok::<_, Infallible>(Event::default().data(&*word)));
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}
