//! The terminal, taken over and given back.

use std::io::{self, stdout};
use std::panic::{set_hook, take_hook};
use std::sync::atomic::{AtomicBool, Ordering};

use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::{DefaultTerminal, Frame};

use crate::RunError;
use crate::error::io;

/// Whether it is taken over now.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The whole screen of the terminal; given back when dropped, and on a panic of any thread.
pub(super) struct Terminal(DefaultTerminal);

impl Terminal {
    /// Take it over.
    pub fn take() -> Result<Self, RunError> {
        let before = take_hook();
        // The message of a panic is to be read.
        set_hook(Box::new(move |panic| {
            give_back();
            before(panic);
        }));
        let failed = io("take over", "the terminal".as_ref());
        take_over().map(Self).map_err(|error| {
            give_back();
            failed(error)
        })
    }

    /// Draw, unless a panic has given the terminal back.
    pub fn draw(&mut self, paint: impl FnOnce(&mut Frame)) -> io::Result<()> {
        if !TAKEN.load(Ordering::Acquire) {
            return Err(io::Error::other("a thread of lucid watch has panicked"));
        }
        self.0.draw(paint).map(drop)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back();
    }
}

fn take_over() -> io::Result<DefaultTerminal> {
    enable_raw_mode()?;
    TAKEN.store(true, Ordering::Release);
    execute!(stdout(), EnterAlternateScreen)?;
    ratatui::Terminal::new(CrosstermBackend::new(stdout()))
}

/// Once: leaving the other screen again would put the cursor back over what was printed since.
fn give_back() {
    if TAKEN.swap(false, Ordering::AcqRel) {
        // A terminal that has gone needs nothing back.
        let _ = execute!(stdout(), LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}
