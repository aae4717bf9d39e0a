//! The gate: a process beside the learner, through which other hosts take part. To the learner it is their actors.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use shared::config::Config;
use shared::wire::{LinkReceiver, LinkSender, WireError, knock};
use zenoh::Session;

use super::HostError;
use super::host::{Connection, Local};
use super::packet::{pack, unpack};
use super::secrets::Authority;
use super::session::{Ear, Place, Urgency, Way, open};
use super::words::{Answer, Down, Introduction, key};
use crate::RunError;
use crate::error::wire;
use crate::launch::{HostNotice, HostOrder};
use crate::threads::spawn;

/// How often orders and visitors are waited for before something else is looked at.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long hosts may take to hear that the run has ended.
const FAREWELL: Duration = Duration::from_secs(3);

/// What the gate's process is started with.
#[derive(Clone, Debug)]
pub struct GateArgs {
    /// Run folder.
    pub run: PathBuf,
    /// Name of the launcher's door.
    pub join: String,
    /// The run's secret.
    pub token: String,
}

/// The whole life of the gate's process, until the launcher has gone or the run has ended.
pub fn run(args: &GateArgs) -> Result<(), RunError> {
    let hello = HostNotice::Hello { token: args.token.clone() };
    let (notices, orders): (LinkSender<HostNotice>, LinkReceiver<HostOrder>) =
        knock(&args.join, &hello).map_err(wire("joining the launcher"))?;
    let authority = Authority::of_run(&args.run)?;
    let path = args.run.join("config.toml");
    let config = Config::load(&[path.to_string_lossy()], &[] as &[&str])?;
    let hold = config.sync.max_lag_updates > 0 && config.sync.max_lag_mode == "hard";
    let config = config.hosts;
    let identity = config.secure.then(|| authority.gate()).transpose()?;
    let session = open(&Place::Listen(&config.listen), identity.as_ref())?;
    let local = Local { token: args.token.clone(), notices, encoder: Arc::default() };
    let gate = Arc::new(Gate { session, secret: authority.secret, hold, local, hosts: Mutex::default() });
    let greeting = gate.clone();
    let ear = Ear::new(&gate.session, key("hello", "*"))?;
    spawn("greet hosts", move || greeting.greet_all(&ear))?;
    gate.follow(&orders)
}

struct Gate {
    session: Session,
    secret: String,
    /// Whether actors are to wait while the run is not heard.
    hold: bool,
    local: Local,
    /// Hosts that are there, by name.
    hosts: Mutex<BTreeMap<String, Arc<Connection>>>,
}

impl Gate {
    fn follow(&self, orders: &LinkReceiver<HostOrder>) -> Result<(), RunError> {
        let mut told = Instant::now();
        loop {
            match orders.recv_timeout(PATIENCE) {
                Ok(incoming) => match incoming.message {
                    HostOrder::Invite { host, who, door, start } => {
                        self.with(&host, |host| host.invite(who, door, start));
                    }
                    HostOrder::Kill { host, who } => self.with(&host, |host| host.tell(Down::Kill(who))),
                    HostOrder::Stop { reason } => {
                        self.stop(&reason);
                        return Ok(());
                    }
                },
                Err(WireError::Timeout { .. }) => {}
                Err(error) => {
                    self.stop("the launcher has gone");
                    return Err(wire("listening to the launcher")(error));
                }
            }
            if told.elapsed() > Duration::from_secs(1) {
                told = Instant::now();
                let hosts = self.hosts.lock().values().map(|host| host.figures()).collect();
                self.local.tell(&HostNotice::Hosts(hosts));
            }
        }
    }

    /// A host that has gone meanwhile is told of by itself.
    fn with(&self, name: &str, act: impl FnOnce(&Arc<Connection>)) {
        let host = self.hosts.lock().get(name).cloned();
        if let Some(host) = host {
            act(&host);
        }
    }

    fn stop(&self, reason: &str) {
        let hosts: Vec<_> = self.hosts.lock().values().cloned().collect();
        hosts.iter().for_each(|host| host.tell(Down::Stop { reason: reason.into() }));
        let deadline = Instant::now() + FAREWELL;
        while hosts.iter().any(|host| !host.is_drained()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn greet_all(self: &Arc<Self>, ear: &Ear) {
        loop {
            let Some((epoch, bytes)) = ear.recv_named(PATIENCE) else { continue };
            if let Err(error) = self.greet(&epoch, &bytes) {
                self.local.tell(&HostNotice::Refused { what: format!("a visitor from another host: {error}") });
            }
        }
    }

    /// Somebody introduces itself, perhaps once more, because it has not been answered.
    fn greet(self: &Arc<Self>, epoch: &str, bytes: &[u8]) -> Result<(), HostError> {
        let packet = unpack::<Introduction>(bytes).map_err(HostError::way)?;
        let Some((hello, _)) = packet.words.into_iter().next() else { return Ok(()) };
        let answer = match self.check(&hello) {
            Ok(()) => {
                self.admit(epoch, hello)?;
                Answer::Welcome { hold: self.hold }
            }
            Err(reason) => {
                self.local.tell(&HostNotice::Refused { what: format!("host {}: {reason}", hello.name) });
                Answer::Refused { reason }
            }
        };
        let words = pack(0, vec![(answer, Vec::new())]).map_err(HostError::way)?;
        Way::new(&self.session, key("answer", epoch), Urgency::Words)?.send(words)
    }

    fn check(&self, hello: &Introduction) -> Result<(), String> {
        // Compared by digest: how long that takes tells nothing of where they differ.
        if blake3::hash(hello.secret.as_bytes()) != blake3::hash(self.secret.as_bytes()) {
            return Err("it does not have the run's secret: lucid host token makes a file with it".into());
        }
        let own = env!("CARGO_PKG_VERSION");
        if hello.binary != own {
            return Err(format!("it is of version {}, the run of {own}", hello.binary));
        }
        Ok(())
    }

    /// A host that comes again takes the place of its connection before.
    fn admit(self: &Arc<Self>, epoch: &str, hello: Introduction) -> Result<(), HostError> {
        let mut hosts = self.hosts.lock();
        if hosts.get(&hello.name).is_some_and(|host| host.epoch == epoch && !host.is_broken()) {
            return Ok(());
        }
        if let Some(before) = hosts.remove(&hello.name) {
            if before.instance != hello.instance {
                // If it is still there: else both would take each other's place for ever.
                before.tell(Down::Stop { reason: format!("another host has come as {}", hello.name) });
            }
            before.break_off("its host has come again");
        }
        let (gate, name) = (self.clone(), hello.name.clone());
        let gone = move |connection: &Arc<Connection>| {
            let mut hosts = gate.hosts.lock();
            if hosts.get(&name).is_some_and(|held| Arc::ptr_eq(held, connection)) {
                hosts.remove(&name);
            }
        };
        let host = Connection::open(&self.session, epoch, &hello, self.local.clone(), gone)?;
        hosts.insert(hello.name.clone(), host);
        drop(hosts);
        let Introduction { name, actors, running, .. } = hello;
        self.local.tell(&HostNotice::Came { host: name, actors, running });
        Ok(())
    }
}
