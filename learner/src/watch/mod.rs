//! `lucid watch`: a run as it goes, on the whole screen of a terminal or as lines, and requests to it.
//!
//! [`state::State`] is what is known; [`screen`] and [`plain`] show it, [`keys`] change it, [`feed`] brings news. Drawing waits for
//! nothing: whatever may take its time is on a thread of its own.

mod actors;
mod charts;
mod feed;
mod history;
mod keys;
mod panel;
mod plain;
mod screen;
mod state;
mod terminal;
#[cfg(test)]
mod tests;
mod theme;

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use self::feed::Event;
use self::history::History;
use self::keys::Deed;
use self::state::{Stage, State};
use self::terminal::Terminal;
use self::theme::Theme;
use crate::RunError;
use crate::control::{Client, ControlError, Request};
use crate::error::io;
use crate::launch::RunLock;
use crate::plot::records::FILE;

/// How often the screen is drawn anew when nothing happens.
const TICK: Duration = Duration::from_secs(1);
/// How long the first report may take where only one is wanted.
const PATIENCE: Duration = Duration::from_secs(10);

/// Watch on the whole screen, until the person at the keyboard leaves.
pub fn screen(run: &Path) -> Result<(), RunError> {
    let (events, news) = unbounded();
    let mut state = open(run, &events)?;
    let requests = feed::asker(run, events.clone())?;
    feed::signals(events.clone())?;
    let theme = Theme { colours: console::colors_enabled() };
    let mut terminal = Terminal::take()?;
    feed::keys(events)?;
    follow(&mut terminal, &mut state, theme, &news, &requests)?;
    drop(terminal);
    say(&farewell(&state));
    Ok(())
}

/// Print how the run is now.
pub fn once(run: &Path) -> Result<(), RunError> {
    let (events, news) = unbounded();
    let mut state = open(run, &events)?;
    let deadline = Instant::now() + PATIENCE;
    while state.stage == Stage::Live && state.report.is_none() {
        match news.recv_deadline(deadline) {
            Ok(event) => drop(take(&mut state, event)?),
            Err(_) => break,
        }
    }
    say(&plain::lines(&state, Instant::now()).join("\n"));
    Ok(())
}

fn say(text: &str) {
    // A closed pipe, a terminal that has gone: nobody reads it.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// What the folder holds, and, where the run goes on, what it will say.
fn open(run: &Path, events: &Sender<Event>) -> Result<State, RunError> {
    let client = match Client::connect(run) {
        Ok(client) => Some(client),
        Err(ControlError::NotRunning { .. }) if is_run(run) => None,
        Err(_) if !is_run(run) => return Err(no_run(run)),
        Err(error) => return Err(error.into()),
    };
    let stage = if client.is_some() { Stage::Live } else { Stage::Record };
    let mut state = State::new(run, History::read(run), stage);
    match client {
        Some(client) => feed::listen(client, events.clone())?,
        None => {
            let holder = RunLock::holder(run, "launcher.lock");
            let silent = |pid| format!("process {pid} holds this run but does not answer yet: start lucid watch again");
            state.notice = holder.map(silent).or(state.notice);
        }
    }
    Ok(state)
}

fn is_run(run: &Path) -> bool {
    run.join("config.toml").is_file() || run.join(FILE).is_file()
}

fn no_run(run: &Path) -> RunError {
    RunError::Folder {
        path: run.to_path_buf(),
        message: if run.is_dir() { "it holds no run" } else { "there is no such folder" }.into(),
        help: "give the folder that `lucid train --run` was given; without --run it is a new one in runs/".into(),
    }
}

/// Draw and take in what happens, until there is a reason to leave.
fn follow(
    terminal: &mut Terminal,
    state: &mut State,
    theme: Theme,
    news: &Receiver<Event>,
    requests: &Sender<Request>,
) -> Result<(), RunError> {
    loop {
        let drawn = terminal.draw(|frame| screen::draw(frame, state, theme, Instant::now()));
        drawn.map_err(io("draw on", "the terminal".as_ref()))?;
        let first = match news.recv_timeout(TICK) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        for event in first.into_iter().chain(news.try_iter()) {
            match take(state, event)? {
                Some(Deed::Leave) => return Ok(()),
                // The thread that asks lives as long as this loop.
                Some(Deed::Ask(request)) => drop(requests.send(request)),
                None => {}
            }
        }
    }
}

fn take(state: &mut State, event: Event) -> Result<Option<Deed>, RunError> {
    match event {
        Event::Said(word) => state.hear(word, Instant::now()),
        Event::Silent(why) => state.end(why),
        Event::Answered(answer) => state.answered(answer),
        Event::Key(key) => return Ok(keys::press(state, key)),
        Event::Resized => {}
        Event::Deaf(error) => return Err(io("read keys from", "the terminal".as_ref())(error)),
        Event::Signal => return Ok(Some(Deed::Leave)),
    }
    Ok(None)
}

/// What is left to say when the screen has gone.
fn farewell(state: &State) -> String {
    let run = &state.run;
    match &state.stage {
        Stage::Live => format!("the run in {run} goes on; look again with: lucid watch {run}"),
        Stage::Ended(why) => format!(
            "the run in {run} has ended: {}; go on with: lucid train --run {run}",
            crate::report::text::clean(why)
        ),
        Stage::Record => format!("no run goes on in {run}; go on with: lucid train --run {run}"),
    }
}
