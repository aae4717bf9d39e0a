//! A child that does not outlive its parent, and never dies in silence.

use std::cell::Cell;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use crate::env::tasks;

/// Tie this process to its parent. When the parent ends, however it ends, `signal` arrives, and the standard input (a pipe that
/// the parent holds open) closes, which calls `gone`. What the parent writes to it is `heard` by the line. An error if the parent has
/// gone already.
pub fn bind_to_parent(
    parent: u32,
    signal: Signal,
    mut heard: impl FnMut(String) + Send + 'static,
    gone: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    set_parent_process_death_signal(Some(signal))?;
    if getppid().map(Pid::as_raw_nonzero).is_none_or(|pid| pid.get() as u32 != parent) {
        return Err(io::Error::other("the process that started this one has gone"));
    }
    thread::Builder::new().name("parent".into()).spawn(move || {
        // Any end of reading means that the parent has gone.
        io::stdin().lines().map_while(Result::ok).for_each(&mut heard);
        gone();
    })?;
    Ok(())
}

thread_local! {
    /// Whether a panic of this thread is somebody's to catch.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Run what is not Lucid's own; if it panics, what it said. The place in the code is on standard error.
pub fn catch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let outer = CAUGHT.replace(true);
    // Nothing of what a panic left half done is used afterwards but to be dropped.
    let result = catch_unwind(AssertUnwindSafe(work));
    CAUGHT.set(outer);
    result.map_err(|said| match said.downcast::<String>() {
        Ok(text) => *text,
        Err(said) => said.downcast::<&str>().map_or_else(|_| "it did not say why".into(), |text| text.to_string()),
    })
}

/// A panic in any thread tells where it was and ends the process with code 101: no thread is missed in silence. One within
/// [`catch`] only tells.
pub fn end_on_panic(name: String) {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        default(info);
        if CAUGHT.get() {
            return;
        }
        let whose = match tasks().names().next() {
            None => "this is a bug in Lucid",
            Some(_) => "this is a bug in Lucid, or in a thread of a task of your own",
        };
        // Standard error may be a log on a full disk.
        let _ = writeln!(io::stderr(), "{name}: ended by the panic above; {whose}");
        std::process::exit(101);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_that_is_caught_says_why() {
        assert_eq!(catch(|| 5), Ok(5));
        assert_eq!(catch(|| panic!("{} is too hot", 7)), Err::<(), _>("7 is too hot".into()));
        assert_eq!(catch(|| catch(|| panic!("inner"))), Ok(Err::<(), _>("inner".into())));
        assert!(!CAUGHT.get());
    }
}
