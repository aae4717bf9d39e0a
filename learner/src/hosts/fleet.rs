//! Hosts that are reached by ssh: `lucid launch` starts `lucid host` on each, and again if it ends before the run does.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::HostError;
use super::secrets::Authority;
use crate::report::complain;

/// How often what was started is looked at.
const TICK: Duration = Duration::from_millis(200);
/// How long it takes until what has ended is started again: at first, and at most.
const AGAIN: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(60)];
/// How long hosts may take to end with the run.
const FAREWELL: Duration = Duration::from_secs(30);

/// What `hosts.toml` says.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    /// Where hosts reach this machine: HOST:PORT.
    pub join: String,
    /// Where to listen; empty: at the port of `join`, on all addresses.
    #[serde(default)]
    pub listen: String,
    /// The program that runs a command on another host, with arguments that go before the host's.
    #[serde(default = "ssh")]
    ssh: Vec<String>,
    /// The hosts.
    #[serde(rename = "host")]
    hosts: Vec<Host>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Host {
    name: String,
    /// What ssh is told: `user@machine`, or a name of its config.
    ssh: String,
    actors: u32,
    /// The program there.
    #[serde(default = "lucid")]
    lucid: String,
    /// Where logs go there.
    #[serde(default = "folder")]
    folder: String,
}

fn ssh() -> Vec<String> {
    // Nobody is there to type a password; a host that does not answer is noticed.
    ["ssh", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=15"].map(String::from).into()
}

fn lucid() -> String {
    "lucid".into()
}

fn folder() -> String {
    "lucid-host".into()
}

impl Fleet {
    /// From a file.
    pub fn read(path: &Path) -> Result<Self, HostError> {
        let failed = |message: String| HostError::Fleet { path: path.into(), message };
        let text = fs::read_to_string(path).map_err(|source| HostError::File { path: path.into(), source })?;
        let mut fleet: Self = toml::from_str(&text).map_err(|error| failed(error.to_string()))?;
        let port = fleet.join.rsplit_once(':').filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        let Some((_, port)) = port else {
            return Err(failed(format!("`join` is {:?}, not HOST:PORT", fleet.join)));
        };
        if fleet.listen.is_empty() {
            fleet.listen = format!("0.0.0.0:{port}");
        }
        let mut names = BTreeSet::new();
        if let Some(twice) = fleet.hosts.iter().find(|host| !names.insert(&host.name)) {
            return Err(failed(format!("two hosts are called {:?}", twice.name)));
        }
        if let Some(host) = fleet.hosts.iter().find(|host| host.name.is_empty() || host.name.contains('/')) {
            return Err(failed(format!("a host cannot be called {:?}", host.name)));
        }
        if fleet.ssh.is_empty() {
            return Err(failed("`ssh` names no program".into()));
        }
        Ok(fleet)
    }

    /// Start `lucid host` on each for the run in this folder, and keep it going until the result is dropped.
    pub fn start(&self, run: &Path) -> Result<Started, HostError> {
        let authority = Authority::of_run(run)?;
        let over = Arc::new(AtomicBool::new(false));
        let mut started = Started { over: over.clone(), threads: vec![] };
        for host in &self.hosts {
            let (token, log) = (authority.token(&host.name, &self.join)?, run.join("logs"));
            let keeper = Keeper {
                name: host.name.clone(),
                command: self.command(host),
                token: token.text()?,
                log: log.join(format!("host-{}.log", host.name)),
                over: over.clone(),
            };
            let thread = thread::Builder::new().name(format!("host {}", host.name));
            started.threads.push(thread.spawn(move || keeper.keep()).map_err(HostError::Thread)?);
        }
        Ok(started)
    }

    fn command(&self, host: &Host) -> Vec<String> {
        let (lucid, folder) = (quoted(&host.lucid), quoted(&host.folder));
        let there = format!("exec {lucid} host --token - --actors {} --folder {folder}", host.actors);
        self.ssh.iter().chain([&host.ssh, &there]).cloned().collect()
    }
}

/// For a shell, as one word; a leading `~/` is still the home folder.
fn quoted(word: &str) -> String {
    let (home, rest) = word.strip_prefix("~/").map_or(("", word), |rest| ("~/", rest));
    format!("{home}'{}'", rest.replace('\'', r"'\''"))
}

/// Hosts that were started; ended when dropped.
pub struct Started {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for Started {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Keeps one host going.
struct Keeper {
    name: String,
    command: Vec<String>,
    token: String,
    log: PathBuf,
    over: Arc<AtomicBool>,
}

impl Keeper {
    fn keep(&self) {
        let mut wait = AGAIN[0];
        while !self.over.load(Ordering::Acquire) {
            let begun = Instant::now();
            let how = match self.start() {
                Ok(child) => self.watch(child),
                Err(error) => format!("{}: {error}", self.command[0]),
            };
            if self.over.load(Ordering::Acquire) {
                return;
            }
            if begun.elapsed() > AGAIN[1] {
                wait = AGAIN[0];
            }
            let (name, log, seconds) = (&self.name, self.log.display(), wait.as_secs());
            complain(format!("host {name} ended: {how}; starting it again in {seconds} s, see {log}"));
            let due = Instant::now() + wait;
            while Instant::now() < due && !self.over.load(Ordering::Acquire) {
                thread::sleep(TICK);
            }
            wait = (2 * wait).min(AGAIN[1]);
        }
    }

    /// In a process group of its own: Ctrl-C is for the run, which then has its hosts end.
    fn start(&self) -> std::io::Result<Child> {
        let log: File = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).process_group(0);
        command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
        let mut child = command.spawn()?;
        // It stays open: when this end has gone, the host leaves the run.
        if let Some(stdin) = &mut child.stdin {
            stdin.write_all(self.token.as_bytes())?;
            stdin.write_all(b"\n.\n")?;
            stdin.flush()?;
        }
        Ok(child)
    }

    /// Until it has ended, how it did. Once the run is over, it may take a while.
    fn watch(&self, mut child: Child) -> String {
        let mut deadline = None;
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return status.to_string(),
                Ok(None) => thread::sleep(TICK),
                Err(error) => return error.to_string(),
            }
            if self.over.load(Ordering::Acquire) && Instant::now() > *deadline.get_or_insert(Instant::now() + FAREWELL)
            {
                let _ = child.kill();
                let _ = child.wait();
                return "it did not end".into();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Fleet, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts.toml");
        fs::write(&path, text).unwrap();
        Fleet::read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_of_hosts_becomes_commands() {
        let text = "join = \"me:7447\"\n[[host]]\nname = \"a\"\nssh = \"u@a\"\nactors = 8\n\
                    [[host]]\nname = \"b\"\nssh = \"b\"\nactors = 2\nlucid = \"~/my bin/lucid\"\nfolder = \"it's\"";
        let fleet = read(text).unwrap();
        assert_eq!(fleet.listen, "0.0.0.0:7447");
        let last = |number: usize| fleet.command(&fleet.hosts[number]).split_off(5);
        assert_eq!(last(0), ["u@a", "exec 'lucid' host --token - --actors 8 --folder 'lucid-host'"]);
        assert_eq!(last(1), ["b", r"exec ~/'my bin/lucid' host --token - --actors 2 --folder 'it'\''s'"]);
    }

    #[test]
    fn what_is_wrong_with_it_is_said() {
        let host = "[[host]]\nname = \"a\"\nssh = \"a\"\nactors = 8\n";
        let join = "join = \"me:7447\"\n";
        for (text, said) in [
            (host.to_string(), "join"),
            (format!("join = \"me\"\n{host}"), "HOST:PORT"),
            (join.to_string(), "host"),
            (format!("{join}{host}{host}"), "two hosts are called \"a\""),
            (format!("{join}{}", host.replace("\"a\"\nssh", "\"a/b\"\nssh")), "a/b"),
            (format!("{join}{host}cores = 3"), "cores"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains("hosts.toml") && error.contains(said), "{error}");
        }
    }
}
