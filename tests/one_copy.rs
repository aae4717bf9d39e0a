//! The frozen encoder is in memory once, whatever the number of actors, and actors know no file.

use std::fs;

use rustix::process::Signal;
use shared::vit::VitSpec;

use crate::support::{Run, checkpoint, children, wait_for};

const MB: f64 = 1e6;

/// One mapping of a process, as the kernel accounts for it, bytes.
#[derive(Default)]
struct Mapping {
    /// Device and inode, by which processes know it.
    file: String,
    shared: bool,
    size: u64,
    resident: u64,
    /// Each page divided by the number of processes that have it.
    proportional: u64,
}

/// Mappings of a process; none if it has just ended.
fn mappings(pid: u32) -> Vec<Mapping> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap_or_default();
    let mut found: Vec<Mapping> = vec![];
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let bytes = || 1024 * words[1].parse::<u64>().unwrap();
        match (words[0], found.last_mut()) {
            ("Size:", Some(mapping)) => mapping.size = bytes(),
            ("Rss:", Some(mapping)) => mapping.resident = bytes(),
            ("Pss:", Some(mapping)) => mapping.proportional = bytes(),
            (range, _) if range.contains('-') => {
                let (file, shared) = (format!("{} {}", words[3], words[4]), words[1].ends_with('s'));
                found.push(Mapping { file, shared, ..Mapping::default() });
            }
            _ => {}
        }
    }
    found
}

/// What a run holds in memory, bytes, summed over its processes in proportion.
struct Held {
    /// The region of the frozen encoder.
    region: u64,
    /// Everything else.
    rest: u64,
}

/// Of a run with this many actors, each of which has read all of an encoder of `bytes`.
fn held(actors: usize, bytes: u64) -> Held {
    let dir = tempfile::tempdir().unwrap();
    let count = actors.to_string();
    // The sizes of ViT-S/14, untrained: no file is needed.
    let sets = [
        "vit.weights=dinov2-small",
        "vit.features=random",
        "env.observe=pixels",
        "env.size=[28, 28]",
        "vit.decode=features",
        "vit.reduce=4",
        "vit.calibration=32",
        "run.train_ratio=1",
    ];
    let mut args = vec!["-c", "dummy", "--actors", &count];
    sets.iter().for_each(|set| args.extend(["--set", set]));
    let mut run = Run::start(&dir.path().join("run"), &args);
    let is_region = |mapping: &Mapping| mapping.shared && mapping.size >= bytes;
    let has_read = |pid: &u32| mappings(*pid).iter().any(|m| is_region(m) && m.resident as f64 > 0.99 * bytes as f64);
    let processes = || children(run.pid()).into_iter().map(|(pid, _)| pid).collect::<Vec<_>>();
    wait_for("the learner and every actor to have read the encoder", || {
        processes().iter().filter(|pid| has_read(pid)).count() == actors + 1
    });
    let all: Vec<Mapping> = processes().into_iter().chain([run.pid()]).flat_map(mappings).collect();
    let (region, rest): (Vec<&Mapping>, Vec<&Mapping>) = all.iter().partition(|mapping| is_region(mapping));
    assert!(region.iter().all(|mapping| mapping.file == region[0].file), "all have mapped the same");
    let sum = |mappings: &[&Mapping]| mappings.iter().map(|mapping| mapping.proportional).sum();
    let held = Held { region: sum(&region), rest: sum(&rest) };
    run.signal(Signal::INT);
    run.end_well();
    held
}

#[test]
fn sixteen_actors_hold_one_copy_of_the_encoder() {
    let numbers: usize =
        VitSpec::dinov2_small().params().iter().map(|(_, shape, _)| shape.iter().product::<usize>()).sum();
    let bytes = 4 * numbers as u64;
    println!("a ViT-S/14 of {:.1} MB; sums of proportional set sizes, MB", bytes as f64 / MB);
    println!("{:>6} {:>9} {:>13} {:>15}", "actors", "encoder", "all the rest", "each more actor");
    let [one, sixteen] = [1, 16].map(|actors| (actors, held(actors, bytes)));
    let more = (sixteen.1.rest as f64 - one.1.rest as f64) / 15.0;
    for (actors, held) in [&one, &sixteen] {
        println!("{actors:>6} {:>9.1} {:>13.1} {:>15.1}", held.region as f64 / MB, held.rest as f64 / MB, more / MB);
        let copies = held.region as f64 / bytes as f64;
        assert!((0.99..1.01).contains(&copies), "{actors} actors hold {copies} copies");
    }
    assert!(more < 0.5 * bytes as f64, "each more actor takes {more} bytes beside an encoder of {bytes}");
}

#[test]
fn an_actor_needs_no_weight_file() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let weights = dir.path().join("vit.safetensors");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/parity/vit/hf_dinov2");
    fs::copy(format!("{source}.safetensors"), &weights).unwrap();
    fs::copy(format!("{source}_config/config.json"), dir.path().join("config.json")).unwrap();
    let file = format!("vit.weights={}", weights.display());
    let sets = [&file, "env.observe=pixels", "vit.decode=features", "vit.reduce=4", "vit.calibration=32"];
    let mut args = vec!["-c", "dummy", "--actors", "1"];
    sets.iter().for_each(|set| args.extend(["--set", set]));
    let mut run = Run::start(&folder, &args);
    run.make_steps(50);
    fs::remove_file(&weights).unwrap();
    let old = run.actor(0).expect("actor 0 runs");
    crate::support::kill(old, Signal::KILL);
    wait_for("actor 0 to be back", || run.actor(0).is_some_and(|pid| pid != old));
    run.make_steps(100);
    run.signal(Signal::INT);
    run.end_well();
    let streams: Vec<u32> = checkpoint(&folder).replay.streams.iter().map(|stream| stream.id.generation).collect();
    assert!(streams.contains(&1), "the new actor acted: {streams:?}");
}
