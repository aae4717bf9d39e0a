//! A process on a terminal of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{InputModes, LocalModes, OutputModes, Winsize, tcgetattr, tcsetwinsize};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(120);
const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";
const HIDE: &str = "\x1b[?25l";
const SHOW: &str = "\x1b[?25h";

/// How a terminal takes in and puts out.
type Modes = (InputModes, OutputModes, LocalModes);

/// How a process ended.
pub struct End {
    pub status: ExitStatus,
    /// Written to the terminal until it was given back.
    pub drawn: String,
    /// Written after that.
    pub after: String,
}

/// A process, and the terminal that it was started on.
pub struct OnTerminal {
    child: Child,
    /// The end where a person sits.
    seat: Option<File>,
    terminal: File,
    before: Modes,
    written: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
    /// Whether nobody sits there any more.
    left: Arc<AtomicBool>,
}

impl OnTerminal {
    /// Start a program with arguments and variables of the environment on a terminal of 120 by 40 characters, the terminal of its session.
    pub fn start(program: &str, args: &[&str], variables: &[(&str, &str)]) -> Self {
        let seat = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&seat).unwrap();
        unlockpt(&seat).unwrap();
        let name = ptsname(&seat, Vec::new()).unwrap();
        let terminal: File =
            open(&name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap().into();
        tcsetwinsize(&terminal, Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let (before, end) = (modes(&terminal), || terminal.try_clone().unwrap());
        let mut command = Command::new("setsid");
        for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
            command.env_remove(name);
        }
        command.args(["--ctty", program]).args(args).env("TERM", "xterm-256color").envs(variables.iter().copied());
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let (seat, written) = (File::from(seat), Arc::<Mutex<Vec<u8>>>::default());
        let (mut source, sink, left) = (seat.try_clone().unwrap(), written.clone(), Arc::<AtomicBool>::default());
        let leaving = left.clone();
        let reader = thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = source.read(&mut piece) {
                sink.lock().unwrap().extend(&piece[..length]);
                if leaving.load(Ordering::Acquire) {
                    return;
                }
            }
        });
        Self { child, seat: Some(seat), terminal, before, written, reader: Some(reader), left }
    }

    /// Everything written to the terminal so far.
    pub fn written(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
    }

    /// Wait until the whole screen is taken over and these words are on it.
    pub fn wait_for_screen(&mut self, words: &str) {
        self.wait(words, |this| {
            let written = this.written();
            written.split_once(ENTER).is_some_and(|(_, drawn)| drawn.contains(words))
        });
        assert!(self.written().contains(HIDE));
        assert!(!modes(&self.terminal).2.intersects(LocalModes::ICANON | LocalModes::ECHO), "keys are read one by one");
    }

    /// Wait until this has been written.
    pub fn wait_for(&mut self, words: &str) {
        self.wait(words, |this| this.written().contains(words));
    }

    /// Press keys.
    pub fn press(&mut self, keys: &str) {
        self.seat.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    /// Send a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), signal).unwrap();
    }

    /// Wait for the end of a process that took over the whole screen, and must have left it once and shown the cursor.
    pub fn end(self) -> End {
        let (status, written) = self.give_back();
        assert_eq!((written.matches(ENTER).count(), written.matches(LEAVE).count()), (1, 1), "{written:?}");
        assert!(written.rfind(SHOW) > written.rfind(HIDE), "the cursor is shown: {written:?}");
        let (drawn, after) = written.split_once(LEAVE).unwrap();
        End { status, drawn: drawn.into(), after: after.into() }
    }

    /// Wait for the end of the process, after which the terminal must be as it was; with all that was written.
    pub fn give_back(mut self) -> (ExitStatus, String) {
        let status = self.wait_for_end();
        assert_eq!(modes(&self.terminal), self.before, "the terminal is as it was");
        // The reader ends with the last who has the terminal open.
        self.terminal = File::open("/dev/null").unwrap();
        self.reader.take().unwrap().join().unwrap();
        (status, self.written())
    }

    /// Take the terminal away, and wait for the end of the process.
    pub fn hang_up(mut self) -> ExitStatus {
        self.seat = None;
        self.left.store(true, Ordering::Release);
        // The reader has the seat open too, until it reads something.
        self.terminal.write_all(b"\n").unwrap();
        self.reader.take().unwrap().join().unwrap();
        self.wait_for_end()
    }

    fn wait_for_end(&mut self) -> ExitStatus {
        let mut status = None;
        self.wait("the end", |this| {
            status = this.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    fn wait(&mut self, what: &str, mut so: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !so(self) {
            assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}: {:.2000?}", self.written());
            thread::park_timeout(Duration::from_millis(20));
        }
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn modes(terminal: &File) -> Modes {
    let modes = tcgetattr(terminal).unwrap();
    (modes.input_modes, modes.output_modes, modes.local_modes)
}
