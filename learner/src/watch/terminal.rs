//! The terminal, taken over and given back.

use ratatui::DefaultTerminal;

use crate::RunError;
use crate::error::io;

/// The whole screen of the terminal; given back when dropped, and on a panic of any thread.
pub(super) struct Terminal(pub DefaultTerminal);

impl Terminal {
    /// Take it over.
    pub fn take() -> Result<Self, RunError> {
        // On a panic its own hook gives the terminal back before the message is printed.
        let taken = ratatui::try_init();
        taken.map(Self).map_err(|error| {
            give_back();
            io("take over", "the terminal".as_ref())(error)
        })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    // A terminal that has gone needs nothing back.
    let _ = ratatui::try_restore();
}
