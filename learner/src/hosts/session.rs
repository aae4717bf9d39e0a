//! A session of zenoh that meets only whom it is told to: the gate listens, a relay connects.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};
use zenoh::bytes::ZBytes;
use zenoh::handlers::FifoChannelHandler;
use zenoh::pubsub::{Publisher, Subscriber};
use zenoh::qos::{CongestionControl, Priority};
use zenoh::sample::Sample;
use zenoh::{Config, Session, Wait};

use super::HostError;
use super::secrets::Identity;

/// How long a message may wait for a network that takes nothing before the session is given up, and with it what it holds.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked whether somebody listens.
const LOOK: Duration = Duration::from_millis(5);
/// Messages that have arrived and wait to be read; the network waits while there are as many.
const WAITING: usize = 64;

/// Where a session is held.
pub enum Place<'a> {
    /// At this address (`0.0.0.0:7447`): others come.
    Listen(&'a str),
    /// At the other end, which listens at this address.
    Connect(&'a str),
}

/// Open a session: with an identity encrypted, and only with others whose certificate is of the same run.
pub fn open(place: &Place, identity: Option<&Identity>) -> Result<Session, HostError> {
    let protocol = if identity.is_some() { "quic" } else { "tcp" };
    let (address, listen, connect) = match place {
        Place::Listen(address) => (address, json!([format!("{protocol}/{address}")]), json!([])),
        Place::Connect(address) => (address, json!([]), json!([format!("{protocol}/{address}")])),
    };
    let failed = |error: zenoh::Error| HostError::Network { address: (*address).into(), message: error.to_string() };
    let mut config = Config::default();
    let mut set = |key: &str, value: &Value| config.insert_json5(key, &value.to_string()).map_err(failed);
    set("mode", &json!("peer"))?;
    set("scouting/multicast/enabled", &json!(false))?;
    set("scouting/gossip/enabled", &json!(false))?;
    set("listen/endpoints", &listen)?;
    set("connect/endpoints", &connect)?;
    // Neither end gives up: the gate waits for hosts, and a relay says itself how long it has waited.
    set("connect/timeout_ms", &json!(-1))?;
    set("connect/exit_on_failure", &json!(false))?;
    set("connect/retry", &json!({ "period_init_ms": 200, "period_max_ms": 2000, "period_increase_factor": 2 }))?;
    set("transport/link/tx/queue/congestion_control/block/wait_before_close", &json!(PATIENCE.as_micros() as u64))?;
    if let Some(identity) = identity {
        let end = if matches!(place, Place::Listen(_)) { "listen" } else { "connect" };
        identify(identity, end, &mut set)?;
    }
    zenoh::open(config).wait().map_err(failed)
}

type Set<'a> = dyn FnMut(&str, &Value) -> Result<(), HostError> + 'a;

fn identify(identity: &Identity, end: &str, set: &mut Set) -> Result<(), HostError> {
    let tls = |key: &str| format!("transport/link/tls/{key}");
    set(&tls("enable_mtls"), &json!(true))?;
    // A gate is met by whatever name or address its machine has; who it is, its certificate says.
    set(&tls("verify_name_on_connect"), &json!(false))?;
    set(&tls("root_ca_certificate_base64"), &json!(STANDARD.encode(&identity.authority)))?;
    set(&tls(&format!("{end}_certificate_base64")), &json!(STANDARD.encode(&identity.certificate)))?;
    set(&tls(&format!("{end}_private_key_base64")), &json!(STANDARD.encode(&identity.key)))
}

/// How urgent messages are: the urgent overtake others, also within one that is long.
#[derive(Clone, Copy)]
pub enum Urgency {
    /// Words.
    Words,
    /// Pieces of what is long.
    Pieces,
}

/// A way out: messages to whoever listens to `key`.
pub struct Way {
    publisher: Publisher<'static>,
    address: String,
    sent: Arc<AtomicU64>,
}

impl Way {
    /// Along this key.
    pub fn new(session: &Session, key: String, urgency: Urgency) -> Result<Self, HostError> {
        let priority = match urgency {
            Urgency::Words => Priority::InteractiveHigh,
            Urgency::Pieces => Priority::DataLow,
        };
        let publisher = session.declare_publisher(key.clone()).congestion_control(CongestionControl::Block);
        let publisher = publisher.priority(priority).wait().map_err(failed(&key))?;
        Ok(Self { publisher, address: key, sent: Arc::default() })
    }

    /// Counts the bytes that were sent.
    pub fn sent(&self) -> Arc<AtomicU64> {
        self.sent.clone()
    }

    /// Whether somebody listens now.
    pub fn is_heard(&self) -> bool {
        self.publisher.matching_status().wait().is_ok_and(|status| status.matching())
    }

    /// Wait until somebody listens, since what is sent before that goes nowhere; whether somebody does before it is given up.
    pub fn wait_until_heard(&self, given_up: impl Fn() -> bool) -> bool {
        while !self.is_heard() {
            if given_up() {
                return false;
            }
            thread::sleep(LOOK);
        }
        true
    }

    /// Send, and wait while the network takes nothing. That it was sent says nothing about whether it arrives.
    pub fn send(&self, bytes: Vec<u8>) -> Result<(), HostError> {
        self.send_with(bytes, Bytes::new())
    }

    /// Send what follows each other as one message; the second part is not copied.
    pub fn send_with(&self, head: Vec<u8>, rest: Bytes) -> Result<(), HostError> {
        self.sent.fetch_add((head.len() + rest.len()) as u64, Ordering::Relaxed);
        let mut message = ZBytes::writer();
        message.append(ZBytes::from(head));
        message.append(ZBytes::from(rest));
        self.publisher.put(message.finish()).wait().map_err(failed(&self.address))
    }
}

/// What arrives along a key.
pub struct Ear {
    subscriber: Subscriber<FifoChannelHandler<Sample>>,
}

impl Ear {
    /// Listen to this key.
    pub fn new(session: &Session, key: String) -> Result<Self, HostError> {
        let channel = zenoh::handlers::FifoChannel::new(WAITING);
        let subscriber = session.declare_subscriber(key.clone()).with(channel).wait().map_err(failed(&key))?;
        Ok(Self { subscriber })
    }

    /// The next message, if one comes in time.
    pub fn recv(&self, limit: Duration) -> Option<Vec<u8>> {
        self.recv_named(limit).map(|(_, bytes)| bytes)
    }

    /// The next message with the last part of its key, if one comes in time.
    pub fn recv_named(&self, limit: Duration) -> Option<(String, Vec<u8>)> {
        let sample = self.subscriber.recv_timeout(limit).ok().flatten()?;
        let name = sample.key_expr().rsplit('/').next().unwrap_or_default().to_string();
        Some((name, sample.payload().to_bytes().into_owned()))
    }
}

fn failed(key: &str) -> impl Fn(zenoh::Error) -> HostError + '_ {
    move |error| HostError::Network { address: key.into(), message: error.to_string() }
}
