//! Simulated runs with more hosts than there are here.

use super::Args;
use crate::hosts::growth::{Costs, Load, Outcome, Place, simulate};

/// Print a line for each number of hosts. Actors have so many credits.
pub fn print(args: &Args, costs: &Costs, pace: f64, credits: u32) {
    let pace = args.grow_pace.unwrap_or(pace);
    let place = Place { cores: args.cores.max(1), network: args.gbits * 1e9 / 8.0, round_trip: 1e-3 * args.round_trip };
    if !args.json {
        println!(
            "\nSimulated: {pace:.0} steps a second of each actor, updates of {:.2} s, snapshots of {:.1} MiB, {} cores, {} Gbit/s, {} ms to a \
             host and back;\na chunk of {:.0} steps has {:.1} KiB, a byte of a snapshot to a host takes {:.2} ns,\n\
             a word to or from an actor {:.1} us.",
            args.update,
            args.snapshot as f64 / 1048576.0,
            args.cores,
            args.gbits,
            args.round_trip,
            costs.chunk_steps,
            costs.chunk_bytes / 1024.0,
            1e9 * costs.byte,
            1e6 * costs.word
        );
        println!(
            "{:>5} {:>6} {:>9} {:>6} {:>18} {:>7} {:>6} {:>11} {:>12}  bound by",
            "hosts", "actors", "steps/s", "share", "lag, updates (p95)", "ingest", "cores", "network in", "network out"
        );
    }
    for &hosts in &args.grow {
        let load = Load {
            hosts: hosts as usize,
            actors: args.actors as usize,
            pace,
            credits,
            update: args.update,
            snapshot: args.snapshot as f64,
        };
        line(args, &load, &simulate(costs, &place, &load));
    }
}

fn line(args: &Args, load: &Load, found: &Outcome) {
    let (hosts, actors) = (load.hosts, load.hosts * load.actors);
    let Outcome { steps, busy, lag: [median, most] } = found;
    let bounds = found.bounds().join(", ");
    match args.json {
        true => println!(
            r#"{{"simulated_hosts": {hosts}, "actors": {actors}, "steps_per_s": {steps:.0}, "lag_updates_p50": {median}, "lag_updates_p95": {most}, "busy": {busy:.3?}, "bound": "{bounds}"}}"#
        ),
        false => {
            let share = steps / (actors as f64 * load.pace);
            println!(
                "{hosts:>5} {actors:>6} {steps:>9.0} {share:>6.2} {:>18} {:>7.2} {:>6.2} {:>11.2} {:>12.2}  {bounds}",
                format!("{median} ({most})"),
                busy[0],
                busy[1],
                busy[2],
                busy[3]
            );
        }
    }
}
