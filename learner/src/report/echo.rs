//! The terminal's echo of Ctrl-C.

use std::io::stdout;

use rustix::process::getpgrp;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};

/// While this lives, the terminal does not draw `^C`: that would begin a line below the block, which then could not be cleared whole.
pub struct Unechoed {
    before: Termios,
}

impl Unechoed {
    /// None where standard output is not the terminal that this process is in front of.
    pub fn new() -> Option<Self> {
        let before = tcgetattr(stdout()).ok()?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHOCTL);
        set(&quiet)?;
        Some(Self { before })
    }
}

impl Drop for Unechoed {
    fn drop(&mut self) {
        let _ = set(&self.before);
    }
}

/// Whoever sets a terminal from the background is stopped.
fn set(modes: &Termios) -> Option<()> {
    let in_front = tcgetpgrp(stdout()).ok()? == getpgrp();
    in_front.then(|| tcsetattr(stdout(), OptionalActions::Now, modes).ok())?
}
