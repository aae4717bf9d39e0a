//! What happens around the screen, each source on a thread of its own: words of the run, answers, keys, signals.

use std::path::Path;

use crossbeam::channel::{Receiver, Sender, unbounded};
use ratatui::crossterm::event::{self, KeyEvent, KeyEventKind};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::RunError;
use crate::control::{Client, ControlError, Request, Word};
use crate::threads::{on_signals, spawn};

/// What happened.
#[derive(Debug)]
pub(super) enum Event {
    /// The run said something.
    Said(Word),
    /// The run says nothing any more: why.
    Silent(String),
    /// A request was granted, or refused.
    Answered(Result<String, String>),
    /// A key was pressed.
    Key(KeyEvent),
    /// The terminal has another size.
    Resized,
    /// Keys can no longer be read.
    Deaf(std::io::Error),
    /// A signal to end.
    Signal,
}

/// Pass on what the run says.
pub(super) fn listen(client: Client, events: Sender<Event>) -> Result<(), RunError> {
    let words = client.watch()?;
    spawn("words", move || {
        let mut why = "its launcher has gone".to_string();
        for word in words {
            let said = match word {
                Ok(word) => events.send(Event::Said(word)),
                Err(error) => {
                    why = error.to_string();
                    break;
                }
            };
            if said.is_err() {
                return;
            }
        }
        // Nobody listens any more: then nobody needs to know.
        let _ = events.send(Event::Silent(why));
    })
}

/// Ask the run what is sent to the sender, one after the other, over a connection of its own.
pub(super) fn asker(run: &Path, events: Sender<Event>) -> Result<Sender<Request>, RunError> {
    let (sender, requests): (_, Receiver<Request>) = unbounded();
    let run = run.to_path_buf();
    spawn("requests", move || {
        let mut client = None;
        for request in requests {
            let answer = ask(&run, &mut client, &request).map_err(|error| {
                if !matches!(error, ControlError::Refused(_)) {
                    client = None;
                }
                error.to_string()
            });
            if events.send(Event::Answered(answer)).is_err() {
                return;
            }
        }
    })?;
    Ok(sender)
}

fn ask(run: &Path, client: &mut Option<Client>, request: &Request) -> Result<String, ControlError> {
    match client {
        Some(client) => client.ask(request),
        None => client.insert(Client::connect(run)?).ask(request),
    }
}

/// Pass on keys, and changes of the terminal's size.
pub(super) fn keys(events: Sender<Event>) -> Result<(), RunError> {
    spawn("keys", move || {
        loop {
            let event = match event::read() {
                Ok(event::Event::Key(key)) if key.kind != KeyEventKind::Release => Event::Key(key),
                Ok(event::Event::Resize(..)) => Event::Resized,
                Ok(_) => continue,
                Err(error) => {
                    let _ = events.send(Event::Deaf(error));
                    return;
                }
            };
            if events.send(event).is_err() {
                return;
            }
        }
    })
}

/// Pass on signals to end.
pub(super) fn signals(events: Sender<Event>) -> Result<(), RunError> {
    on_signals(&[SIGINT, SIGTERM, SIGHUP], move |_| events.send(Event::Signal).is_ok())
}
