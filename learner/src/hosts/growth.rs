//! How a run would fare with more hosts than there are here: a simulation, event by event, of what they share at the learner, by costs
//! that were measured.
//!
//! What is simulated: actors make chunks at their pace and as far as credits allow; a chunk goes over the learner's network, through the
//! gate and the learner's thread for that actor, which share cores, and through the one ingest thread; its credit goes back. Each update
//! publishes a snapshot, which goes to each host once, in pieces, the newest when the one before has arrived. What is not: hosts
//! themselves, losses, and the batches of messages that make both cheaper where there is more to do.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::freight;

/// Bytes of a piece of a snapshot.
const PIECE: f64 = freight::PIECE as f64;
/// Simulated seconds, and those of them after which is counted.
const SPAN: (f64, f64) = (20.0, 5.0);

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Costs {
    /// Seconds of the ingest thread for a chunk.
    pub ingest: f64,
    /// CPU seconds of the learner's threads of that actor for a chunk.
    pub links: f64,
    /// CPU seconds of the gate for a chunk.
    pub gate: f64,
    /// CPU seconds of the gate for a byte of a snapshot to one host.
    pub byte: f64,
    /// CPU seconds of the gate and the learner for a word to or from an actor.
    pub word: f64,
    /// Bytes of a chunk on the network.
    pub chunk_bytes: f64,
    /// Steps of a chunk.
    pub chunk_steps: f64,
}

/// Where the learner is.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Cores that it and the gate share, besides those that train.
    pub cores: usize,
    /// Bytes a second that its network takes, each way.
    pub network: f64,
    /// Seconds to a host and back.
    pub round_trip: f64,
}

/// What takes part.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Hosts.
    pub hosts: usize,
    /// Actors of each.
    pub actors: usize,
    /// Steps a second that an actor would make.
    pub pace: f64,
    /// Chunks that an actor may have under way.
    pub credits: u32,
    /// Seconds of an update; each publishes.
    pub update: f64,
    /// Bytes of a snapshot.
    pub snapshot: f64,
}

/// How it fares.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Steps a second that get into replay.
    pub steps: f64,
    /// Shares of time that the ingest thread, cores, and the network to and from the learner are busy.
    pub busy: [f64; 4],
    /// Updates that the policy of a chunk's first step is behind: median and 95th percentile.
    pub lag: [f64; 2],
}

/// What is shared, in the order of [`Outcome::busy`].
pub const SHARED: [&str; 4] = ["ingest", "cores", "network in", "network out"];

impl Outcome {
    /// What keeps the run from more steps or fresher policies: what is busy nine tenths of the time and more.
    pub fn bounds(&self) -> Vec<&'static str> {
        SHARED.into_iter().zip(self.busy).filter(|(_, busy)| *busy > 0.9).map(|(shared, _)| shared).collect()
    }
}

/// Simulate.
pub fn simulate(costs: &Costs, place: &Place, load: &Load) -> Outcome {
    let mut simulation = Simulation::new(*costs, *place, *load);
    while let Some(Reverse(Due { at, event, .. })) = simulation.events.pop() {
        simulation.now = at;
        if at > SPAN.0 {
            break;
        }
        simulation.happen(event);
    }
    simulation.outcome()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    /// An actor has a chunk.
    Made(usize),
    /// Its chunk has come to the gate.
    Came(usize),
    /// A core has done something.
    Done(Job),
    /// An actor gets a credit.
    Credit(usize),
    /// An update is done.
    Update,
    /// A piece of a snapshot has left.
    Left { host: usize, version: u64, rest: f64 },
    /// A host has a snapshot whole.
    Whole { host: usize, version: u64 },
    /// The gate knows.
    Known { host: usize },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Job {
    Pass(usize),
    Ingest(usize),
    /// What is said of a snapshot to and by each actor.
    Tell,
    Piece {
        host: usize,
        version: u64,
        rest: f64,
    },
}

struct Due {
    at: f64,
    number: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.total_cmp(&other.at).then(self.number.cmp(&other.number))
    }
}

#[derive(Clone, Copy)]
struct Actor {
    credits: u32,
    waits: bool,
}

#[derive(Clone, Copy, Default)]
struct Host {
    version: u64,
    under_way: bool,
}

struct Simulation {
    costs: Costs,
    place: Place,
    load: Load,
    now: f64,
    number: u64,
    events: BinaryHeap<Reverse<Due>>,
    actors: Vec<Actor>,
    hosts: Vec<Host>,
    version: u64,
    idle: usize,
    ingesting: bool,
    /// For any core; for the ingest thread.
    queues: [VecDeque<Job>; 2],
    /// When the network is free, to and from the learner.
    free: [f64; 2],
    /// Seconds of work since counting began, as in [`Outcome::busy`].
    work: [f64; 4],
    chunks: u64,
    /// How many chunks were begun so many updates behind.
    lags: Vec<u64>,
}

impl Simulation {
    fn new(costs: Costs, place: Place, load: Load) -> Self {
        let actors = vec![Actor { credits: load.credits, waits: false }; load.hosts * load.actors];
        let mut simulation = Self {
            costs,
            place,
            load,
            now: 0.0,
            number: 0,
            events: BinaryHeap::new(),
            hosts: vec![Host::default(); load.hosts],
            version: 0,
            idle: place.cores,
            ingesting: false,
            queues: Default::default(),
            free: [0.0; 2],
            work: [0.0; 4],
            chunks: 0,
            lags: Vec::new(),
            actors,
        };
        for actor in 0..simulation.actors.len() {
            // Spread evenly, whatever their number (the golden ratio's multiples are).
            let phase = (actor as f64 * 0.618_033_988_749_895).fract();
            simulation.after(phase * simulation.interval(), Event::Made(actor));
        }
        simulation.after(load.update, Event::Update);
        simulation
    }

    /// Seconds that an actor takes for a chunk.
    fn interval(&self) -> f64 {
        self.costs.chunk_steps / self.load.pace
    }

    fn after(&mut self, seconds: f64, event: Event) {
        self.number += 1;
        self.events.push(Reverse(Due { at: self.now + seconds, number: self.number, event }));
    }

    fn counts(&self) -> bool {
        self.now >= SPAN.1
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Made(actor) if self.actors[actor].credits == 0 => self.actors[actor].waits = true,
            Event::Made(actor) => self.made(actor),
            Event::Came(actor) => self.queue(0, Job::Pass(actor)),
            Event::Done(job) => self.done(job),
            Event::Credit(actor) => {
                self.actors[actor].credits += 1;
                if std::mem::take(&mut self.actors[actor].waits) {
                    self.made(actor);
                }
            }
            Event::Update => {
                self.version += 1;
                self.after(self.load.update, Event::Update);
                (0..self.hosts.len()).for_each(|host| self.ship(host));
            }
            Event::Left { host, version, rest } if rest > 0.0 => self.queue(0, Job::Piece { host, version, rest }),
            Event::Left { host, version, .. } => {
                self.after(self.place.round_trip / 2.0, Event::Whole { host, version });
            }
            Event::Whole { host, version } => {
                self.hosts[host].version = version;
                self.queue(0, Job::Tell);
                self.after(self.place.round_trip / 2.0, Event::Known { host });
            }
            Event::Known { host } => {
                self.hosts[host].under_way = false;
                self.ship(host);
            }
        }
    }

    fn made(&mut self, actor: usize) {
        if self.counts() {
            let lag = (self.version - self.hosts[actor / self.load.actors].version) as usize;
            self.lags.resize(self.lags.len().max(lag + 1), 0);
            self.lags[lag] += 1;
        }
        self.actors[actor].credits -= 1;
        self.transmit(0, self.costs.chunk_bytes, Event::Came(actor));
        self.after(self.interval(), Event::Made(actor));
    }

    /// Over the learner's network to it (0) or from it (1); what follows happens once all of it is over.
    fn transmit(&mut self, way: usize, bytes: f64, then: Event) {
        let seconds = bytes / self.place.network;
        self.free[way] = self.free[way].max(self.now) + seconds;
        if self.counts() {
            self.work[2 + way] += seconds;
        }
        let travel = if way == 0 { self.place.round_trip / 2.0 } else { 0.0 };
        self.after(self.free[way] - self.now + travel, then);
    }

    /// Send the newest snapshot to a host that lacks it, unless one is under way.
    fn ship(&mut self, host: usize) {
        let Host { version, under_way } = self.hosts[host];
        if !under_way && version < self.version {
            self.hosts[host].under_way = true;
            self.queue(0, Job::Piece { host, version: self.version, rest: self.load.snapshot });
        }
    }

    fn queue(&mut self, queue: usize, job: Job) {
        self.queues[queue].push_back(job);
        self.work_on();
    }

    /// Idle cores take what waits.
    fn work_on(&mut self) {
        while self.idle > 0 {
            let ingest = if self.ingesting { None } else { self.queues[1].pop_front() };
            self.ingesting |= ingest.is_some();
            let Some(job) = ingest.or_else(|| self.queues[0].pop_front()) else { return };
            let seconds = self.seconds(job);
            if self.counts() {
                self.work[1] += seconds;
                self.work[0] += if ingest.is_some() { seconds } else { 0.0 };
            }
            self.idle -= 1;
            self.after(seconds, Event::Done(job));
        }
    }

    fn seconds(&self, job: Job) -> f64 {
        let Costs { ingest, links, gate, byte, word, .. } = self.costs;
        match job {
            Job::Pass(_) => gate + links,
            Job::Ingest(_) => ingest,
            // Each actor is told, and answers.
            Job::Tell => 2.0 * word * self.load.actors as f64,
            Job::Piece { rest, .. } => byte * rest.min(PIECE),
        }
    }

    fn done(&mut self, job: Job) {
        self.idle += 1;
        match job {
            Job::Pass(actor) => self.queue(1, Job::Ingest(actor)),
            Job::Ingest(actor) => {
                self.ingesting = false;
                self.chunks += u64::from(self.counts());
                self.after(self.place.round_trip / 2.0, Event::Credit(actor));
            }
            Job::Tell => {}
            Job::Piece { host, version, rest } => {
                let then = Event::Left { host, version, rest: rest - PIECE };
                self.transmit(1, rest.min(PIECE), then);
            }
        }
        self.work_on();
    }

    fn outcome(self) -> Outcome {
        let seconds = SPAN.0 - SPAN.1;
        let capacity = [1.0, self.place.cores as f64, 1.0, 1.0].map(|servers| servers * seconds);
        // What has begun at the end goes on after it.
        let busy = std::array::from_fn(|shared| (self.work[shared] / capacity[shared]).min(1.0));
        let quantile = |share: f64| {
            let mut rest = share * self.lags.iter().sum::<u64>() as f64;
            let position = self.lags.iter().position(|count| {
                rest -= *count as f64;
                rest <= 0.0
            });
            position.unwrap_or(0) as f64
        };
        Outcome {
            steps: self.chunks as f64 * self.costs.chunk_steps / seconds,
            busy,
            lag: [quantile(0.5), quantile(0.95)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COSTS: Costs = Costs {
        ingest: 20e-6,
        links: 20e-6,
        gate: 60e-6,
        byte: 1e-9,
        word: 5e-6,
        chunk_bytes: 50e3,
        chunk_steps: 16.0,
    };
    const PLACE: Place = Place { cores: 8, network: 1.25e9, round_trip: 1e-3 };
    const LOAD: Load = Load { hosts: 4, actors: 16, pace: 64.0, credits: 4, update: 0.1, snapshot: 4e6 };

    fn near(found: f64, wanted: f64) {
        assert!((found / wanted - 1.0).abs() < 0.03, "{found} is not {wanted}");
    }

    #[test]
    fn with_room_for_all_every_actor_makes_what_it_can_and_the_policy_is_at_most_a_version_old() {
        let found = simulate(&COSTS, &PLACE, &LOAD);
        near(found.steps, 4.0 * 16.0 * 64.0);
        assert_eq!((found.bounds(), found.lag[0] <= 1.0, found.lag[1] <= 1.0), (vec![], true, true));
    }

    #[test]
    fn one_thread_takes_in_no_more_than_it_can_whatever_the_hosts() {
        for hosts in [250, 500] {
            let place = Place { cores: 64, network: 1e12, ..PLACE };
            let found = simulate(&COSTS, &place, &Load { hosts, actors: 64, ..LOAD });
            near(found.steps, 16.0 / COSTS.ingest);
            assert_eq!(found.bounds(), ["ingest"]);
        }
    }

    #[test]
    fn cores_and_the_network_in_bind_where_they_are_few() {
        let load = Load { hosts: 100, actors: 64, update: 1e3, ..LOAD };
        let found = simulate(&COSTS, &Place { cores: 2, network: 1e12, ..PLACE }, &load);
        near(found.steps, 16.0 * 2.0 / (COSTS.ingest + COSTS.links + COSTS.gate));
        assert_eq!(found.bounds(), ["cores"]);
        let found = simulate(&COSTS, &Place { cores: 64, network: 1e8, ..PLACE }, &load);
        near(found.steps, 16.0 * 1e8 / COSTS.chunk_bytes);
        assert_eq!(found.bounds(), ["network in"]);
    }

    #[test]
    fn where_snapshots_fill_the_network_versions_are_skipped_and_policies_are_as_old_as_a_round() {
        // 100 hosts with 4 MB each take 0.32 s, three and a bit updates.
        let found = simulate(&COSTS, &Place { cores: 64, ..PLACE }, &Load { hosts: 100, pace: 1.0, ..LOAD });
        assert_eq!(found.bounds(), ["network out"]);
        assert!((3.0..=7.0).contains(&found.lag[1]), "{:?}", found.lag);
        // As many actors again cost no byte of it.
        let more = simulate(&COSTS, &Place { cores: 64, ..PLACE }, &Load { hosts: 100, actors: 32, pace: 1.0, ..LOAD });
        near(more.busy[3], found.busy[3]);
        near(more.lag[1], found.lag[1]);
    }

    #[test]
    fn a_far_host_is_bound_by_its_credits() {
        let place = Place { round_trip: 1.5, ..PLACE };
        let found = simulate(&COSTS, &place, &LOAD);
        // Four chunks a round trip, instead of four a second; ten round trips are counted.
        near(found.steps, 4.0 * 16.0 * 16.0 * 4.0 / 1.5);
    }
}
