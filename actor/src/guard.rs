//! A child that does not outlive its parent, and never dies in silence.

use std::io::{self, Read};
use std::thread;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// Tie this process to its parent. When the parent ends, however it ends, `signal` arrives, and the standard input (a pipe that
/// the parent holds open) closes, which calls `gone`. An error if the parent has gone already.
pub fn bind_to_parent(parent: u32, signal: Signal, gone: impl FnOnce() + Send + 'static) -> io::Result<()> {
    set_parent_process_death_signal(Some(signal))?;
    if getppid().map(Pid::as_raw_nonzero).is_none_or(|pid| pid.get() as u32 != parent) {
        return Err(io::Error::other("the process that started this one has gone"));
    }
    thread::Builder::new().name("parent".into()).spawn(move || {
        let mut rest = [0; 64];
        // Nothing is ever written to the pipe: any end of reading means that the parent has gone.
        while matches!(io::stdin().read(&mut rest), Ok(n) if n > 0) {}
        gone();
    })?;
    Ok(())
}

/// A panic in any thread tells where it was and ends the process with code 101: no thread is missed in silence.
pub fn end_on_panic(name: String) {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        default(info);
        eprintln!("{name}: ended by the panic above; this is a bug in Lucid");
        std::process::exit(101);
    }));
}
