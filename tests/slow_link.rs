//! A network for one host, of datagrams that take time, are lost, come twice or in another order, or do not come at all.

use std::collections::{BTreeMap, BinaryHeap};
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// How often a thread looks whether it is still wanted.
const TICK: Duration = Duration::from_millis(50);
/// A datagram that would wait longer for its turn is dropped, as by a router whose queue is full.
const QUEUE: Duration = Duration::from_millis(100);

/// What a network is like, in each direction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conditions {
    /// From one end to the other.
    pub delay: Duration,
    /// Share of datagrams that are lost.
    pub loss: f64,
    /// Share of datagrams that come twice.
    pub twice: f64,
    /// Share of datagrams that come up to 20 ms late, after others.
    pub late: f64,
    /// Bits a second.
    pub rate: f64,
    /// Nothing comes through.
    pub cut: bool,
}

impl Conditions {
    /// 20 ms, one in a hundred lost, 50 Mbit/s.
    pub const FAR: Self =
        Self { delay: Duration::from_millis(20), loss: 0.01, twice: 0.0, late: 0.0, rate: 50e6, cut: false };
}

/// The network; it ends when dropped.
pub struct SlowLink {
    /// Where the host goes, as if it were the other end.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    conditions: Mutex<Conditions>,
    /// Bytes that came through, to the host and from it.
    bytes: [AtomicU64; 2],
    over: AtomicBool,
}

/// A datagram on its way: the one that is due first is the greatest.
struct Datagram {
    due: Instant,
    number: u64,
    to: SocketAddr,
    from: Arc<UdpSocket>,
    bytes: Vec<u8>,
}

impl PartialEq for Datagram {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Datagram {}

impl PartialOrd for Datagram {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Datagram {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.due, other.number).cmp(&(self.due, self.number))
    }
}

/// One direction.
#[derive(Clone)]
struct Direction {
    shared: Arc<Shared>,
    queue: Sender<Datagram>,
    state: Arc<Mutex<(Xoshiro256PlusPlus, Instant, u64)>>,
}

impl SlowLink {
    /// From `here`, any free port, to `there`.
    pub fn new(here: &str, there: SocketAddr, conditions: Conditions, seed: u64) -> Self {
        let socket = Arc::new(UdpSocket::bind((here, 0)).unwrap());
        let address = socket.local_addr().unwrap();
        let shared = Arc::new(Shared {
            conditions: Mutex::new(conditions),
            bytes: Default::default(),
            over: AtomicBool::new(false),
        });
        let [down, up] = [0, 1].map(|which| Direction::start(&shared, which, seed + which as u64));
        let outgoing = shared.clone();
        thread::spawn(move || outgoing.forward(&socket, there, &up, &down));
        Self { address, shared }
    }

    pub fn change(&self, conditions: Conditions) {
        *self.shared.conditions.lock() = conditions;
    }

    /// Bytes that came through to the host so far.
    pub fn bytes_down(&self) -> u64 {
        self.shared.bytes[0].load(Ordering::Relaxed)
    }
}

impl Drop for SlowLink {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Release);
    }
}

impl Shared {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// From the host, a socket for each of its own; what comes back by that one goes to it.
    fn forward(self: &Arc<Self>, socket: &Arc<UdpSocket>, there: SocketAddr, up: &Direction, down: &Direction) {
        let mut peers: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
        while let Some((bytes, from)) = self.recv(socket) {
            let peer = peers.entry(from).or_insert_with(|| {
                let peer = Arc::new(UdpSocket::bind("0.0.0.0:0").unwrap());
                let (back, shared, socket, down) = (peer.clone(), self.clone(), socket.clone(), down.clone());
                thread::spawn(move || {
                    while let Some((bytes, _)) = shared.recv(&back) {
                        down.send(bytes, &socket, from);
                    }
                });
                peer
            });
            up.send(bytes, peer, there);
        }
    }

    /// None when the network is over.
    fn recv(&self, socket: &UdpSocket) -> Option<(Vec<u8>, SocketAddr)> {
        socket.set_read_timeout(Some(TICK)).unwrap();
        let mut buffer = [0; 1 << 16];
        while !self.is_over() {
            match socket.recv_from(&mut buffer) {
                Ok((length, from)) => return Some((buffer[..length].to_vec(), from)),
                // What was sent to an end that does not listen comes back as an error.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionRefused) => {}
                Err(error) => panic!("{error}"),
            }
        }
        None
    }
}

impl Direction {
    fn start(shared: &Arc<Shared>, which: usize, seed: u64) -> Self {
        let (queue, queued) = unbounded();
        let state = (Xoshiro256PlusPlus::seed_from_u64(seed), Instant::now(), 0);
        let direction = Self { shared: shared.clone(), queue, state: Arc::new(Mutex::new(state)) };
        let delivering = shared.clone();
        thread::spawn(move || deliver(&delivering, which, &queued));
        direction
    }

    fn send(&self, bytes: Vec<u8>, from: &Arc<UdpSocket>, to: SocketAddr) {
        let conditions = *self.shared.conditions.lock();
        let mut state = self.state.lock();
        let (random, free, number) = &mut *state;
        if conditions.cut || random.random_bool(conditions.loss) {
            return;
        }
        let turn = (*free).max(Instant::now());
        if turn.saturating_duration_since(Instant::now()) > QUEUE {
            return;
        }
        *free = turn + Duration::from_secs_f64(8.0 * bytes.len() as f64 / conditions.rate);
        let mut due = *free + conditions.delay;
        if random.random_bool(conditions.late) {
            due += Duration::from_millis(random.random_range(1..20));
        }
        let times = if random.random_bool(conditions.twice) { 2 } else { 1 };
        for _ in 0..times {
            *number += 1;
            let datagram = Datagram { due, number: *number, to, from: from.clone(), bytes: bytes.clone() };
            let _ = self.queue.send(datagram);
        }
    }
}

fn deliver(shared: &Shared, which: usize, queued: &Receiver<Datagram>) {
    let mut waiting: BinaryHeap<Datagram> = BinaryHeap::new();
    while !shared.is_over() {
        let wait = waiting.peek().map_or(TICK, |first| first.due.saturating_duration_since(Instant::now()));
        match queued.recv_timeout(wait.min(TICK)) {
            Ok(datagram) => waiting.push(datagram),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        while waiting.peek().is_some_and(|first| first.due <= Instant::now()) {
            let Datagram { to, from, bytes, .. } = waiting.pop().expect("there is a first");
            shared.bytes[which].fetch_add(bytes.len() as u64, Ordering::Relaxed);
            let _ = from.send_to(&bytes, to);
        }
    }
}

#[test]
fn datagrams_take_their_time_and_some_are_lost() {
    let end = UdpSocket::bind("127.0.0.1:0").unwrap();
    end.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let conditions = Conditions { loss: 0.1, ..Conditions::FAR };
    let link = SlowLink::new("127.0.0.1", end.local_addr().unwrap(), conditions, 5);
    let host = UdpSocket::bind("127.0.0.1:0").unwrap();
    let begun = Instant::now();
    for number in 0..200u8 {
        host.send_to(&[number; 100], link.address).unwrap();
    }
    let mut buffer = [0; 200];
    let mut came = Vec::new();
    while let Ok((_, from)) = end.recv_from(&mut buffer) {
        assert!(!came.is_empty() || begun.elapsed() >= conditions.delay);
        came.push((buffer[0], from));
    }
    assert!((150..200).contains(&came.len()), "{} of 200 came", came.len());
    assert!(came.is_sorted_by_key(|(number, _)| *number));
    end.send_to(b"back", came[0].1).unwrap();
    host.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    link.change(Conditions { loss: 0.0, ..conditions });
    assert!(link.bytes_down() == 0 || link.bytes_down() == 4);
    let sent = || {
        end.send_to(b"back", came[0].1).unwrap();
        host.recv_from(&mut [0; 10]).is_ok_and(|(length, from)| length == 4 && from == link.address)
    };
    crate::support::wait_for("an answer by the same way", sent);
    link.change(Conditions { cut: true, ..conditions });
    host.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    while host.recv_from(&mut [0; 10]).is_ok() {}
    end.send_to(b"back", came[0].1).unwrap();
    assert!(host.recv_from(&mut [0; 10]).is_err());
}
