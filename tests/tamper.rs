//! A frozen weight that somebody alters is found, named, and never becomes part of a checkpoint; where all processes share it, nobody can
//! alter it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use learner::checkpoint::Cut;
use learner::vit::{Record, Stored};
use rustix::process::Signal;

use crate::support::{Run, checkpoint, flat, hold, kill, lucid, small_vit, through, wait_for};

/// Below the adapters of features: in the learner's own memory.
const STATISTIC: &str = "enc/features";

/// A run that saves every second.
fn start(folder: &Path, args: &[String]) -> Run {
    start_saving_every(folder, args, "checkpoint.every=1")
}

fn start_saving_every(folder: &Path, args: &[String], every: &str) -> Run {
    let args: Vec<&str> = args.iter().map(String::as_str).chain(["--set", every]).collect();
    Run::start(folder, &args)
}

/// The run ends by itself, names the tensor, and keeps the checkpoint that it had, from which it can go on.
fn ends_naming(mut run: Run, tensor: &str, saved: &Cut) {
    assert!(!run.end().success());
    let text = flat(&run.output());
    assert!(text.contains("frozenparametersarenotwhattheywere") && text.contains(tensor), "{}", run.output());
    let kept = checkpoint(&run.dir);
    assert!(kept.counters.updates >= saved.counters.updates && kept.frozen == saved.frozen);
    let (ok, text) = lucid(&["params", "verify", run.dir.to_str().unwrap()]);
    assert!(ok, "what was saved is sound: {text}");
    let more = (kept.counters.env_steps + 50).to_string();
    Run::start(&run.dir, &["--steps", &more]).end_well();
}

fn positions<'a>(bytes: &'a [u8], part: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    (0..bytes.len().saturating_sub(part.len() - 1)).step_by(4).filter(move |at| bytes[*at..].starts_with(part))
}

/// Change the lowest bit of the first number of `part` wherever it lies in the private memory of a process, copies of it included: some
/// are left over from checkpoints.
fn alter_memory(process: u32, part: &[u8]) {
    let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{process}/mem")).unwrap();
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let mut altered = 0;
    for line in maps.lines().filter(|line| line.contains(" rw-p ")) {
        let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
        let (from, to) = line.split_whitespace().next().unwrap().split_once('-').unwrap();
        let (from, to) = (number(from), number(to));
        let mut bytes = vec![0; (to - from) as usize];
        if memory.read_exact_at(&mut bytes, from).is_err() {
            continue;
        }
        for at in positions(&bytes, part) {
            memory.write_all_at(&[bytes[at] ^ 1], from + at as u64).unwrap();
            altered += 1;
        }
    }
    assert!(altered > 0, "the process has no such values");
}

/// Memory that a process shares, by its open descriptors.
fn shared_memory(process: u32) -> Vec<PathBuf> {
    let descriptors = fs::read_dir(format!("/proc/{process}/fd")).unwrap().flatten().map(|fd| fd.path());
    descriptors.filter(|fd| fs::read_link(fd).is_ok_and(|to| to.starts_with("/memfd:lucid (deleted)"))).collect()
}

/// Every way to write what is shared, by a process of the same user: each is refused.
fn is_sealed(descriptor: &Path) {
    // Its owner may give itself the right to open it for writing, which does not help.
    fs::set_permissions(descriptor, Permissions::from_mode(0o600)).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(descriptor).unwrap();
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let denied = |result: std::io::Result<()>| assert_eq!(result.unwrap_err().kind(), ErrorKind::PermissionDenied);
    denied(file.write_all_at(&[bytes[0] ^ 1], 0));
    denied(file.set_len(0));
    denied(file.set_len(2 * bytes.len() as u64));
    let mut after = vec![0; bytes.len()];
    file.read_exact_at(&mut after, 0).unwrap();
    assert_eq!(after, bytes);
}

/// A debugger's way: into the mappings themselves, read-only as they are.
fn mappings_are_sealed(process: u32) {
    let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{process}/mem")).unwrap();
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let shared = maps.lines().filter(|line| line.contains("/memfd:lucid (deleted)")).inspect(|line| {
        assert!(line.contains(" r--s "), "process {process} could write: {line}");
        let from = u64::from_str_radix(line.split_once('-').unwrap().0, 16).unwrap();
        memory.write_all_at(&[1], from).unwrap_err();
    });
    assert!(shared.count() > 0, "process {process} has mapped nothing that is shared");
}

#[test]
fn in_shared_memory_nobody_alters_a_weight_or_a_snapshot_and_the_run_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let weights = small_vit(dir.path());
    let mut run = start(&dir.path().join("run"), &through(weights.to_str().unwrap()));
    run.wait_for_checkpoint();
    let (learner, actor) = (run.learner().unwrap(), run.actor(0).unwrap());
    for process in [learner, actor] {
        // Held, so that no snapshot is replaced by a newer one while its memory is looked at.
        hold(process);
        let regions = shared_memory(process);
        assert!(regions.len() >= 2, "process {process} has the frozen weights and a snapshot: {regions:?}");
        regions.iter().for_each(|region| is_sealed(region));
        mappings_are_sealed(process);
        kill(process, Signal::CONT);
    }
    let (ok, text) = lucid(&["params", "verify", run.dir.to_str().unwrap()]);
    assert!(ok && text.contains(&format!("in the memory that process {learner} shares is as it was")), "{text}");
    run.make_steps(100);
    run.signal(Signal::INT);
    run.end_well();
}

#[test]
fn in_the_learners_memory_it_ends_the_run_at_the_next_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let weights = small_vit(dir.path());
    // Saved when asked, so that none is under way while memory is altered: what lies there for it has been checked already.
    let every = "checkpoint.every=1000000";
    let run = start_saving_every(&dir.path().join("run"), &through(weights.to_str().unwrap()), every);
    let save = || lucid(&["checkpoint", run.dir.to_str().unwrap()]);
    wait_for("a checkpoint with updates", || save().0 && checkpoint(&run.dir).counters.updates > 0);
    let saved = checkpoint(&run.dir);
    let own = |key: &&String| key.starts_with(&format!("params/{STATISTIC}/"));
    // The longest, so that no other values are alike.
    let key = saved.agent.keys().filter(own).max_by_key(|key| saved.agent[*key].bytes.len()).unwrap();
    let learner = run.learner().unwrap();
    // Held, so that nothing is copied from where it has not been altered yet.
    hold(learner);
    alter_memory(learner, &saved.agent[key].bytes);
    kill(learner, Signal::CONT);
    assert!(!save().0, "nothing is saved with it");
    ends_naming(run, key.strip_prefix("params/").unwrap(), &saved);
}

/// Change the lowest bit of a file's last byte, which is a number of a tensor.
fn alter_file(path: &Path) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let (mut last, at) = ([0], file.metadata().unwrap().len() - 1);
    file.read_exact_at(&mut last, at).unwrap();
    file.write_all_at(&[last[0] ^ 1], at).unwrap();
}

/// Of a run and its weights: the file is altered, and both verifying and going on name the tensor.
fn file_is_named(run: &Path, weights: &Path, variables: &[(&str, &Path)]) {
    let before = checkpoint(run).counters;
    alter_file(weights);
    let mut again = Run::start_with(run, &["--steps", "400"], variables);
    assert!(!again.end().success());
    let mut verify = std::process::Command::new(env!("CARGO_BIN_EXE_lucid"));
    let output = verify.args(["params", "verify"]).arg(run).envs(variables.iter().copied()).output().unwrap();
    assert!(!output.status.success());
    for text in [again.output(), String::from_utf8_lossy(&output.stderr).into_owned()] {
        assert!(flat(&text).contains("arenotwhattheywere:`enc/vit/"), "{text}");
    }
    assert_eq!(checkpoint(run).counters, before);
}

#[test]
fn in_a_file_of_weights_it_is_named_by_verify_and_by_going_on() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, weights) = (dir.path().join("run"), small_vit(dir.path()));
    let args = [through(weights.to_str().unwrap()), vec!["--steps".into(), "200".into()]].concat();
    start(&folder, &args).end_well();
    file_is_named(&folder, &weights, &[]);
}

#[test]
fn in_the_cache_of_fetched_weights_it_is_named_by_verify_and_by_going_on() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, cache) = (dir.path().join("run"), dir.path().join("cache"));
    let model = cache.join("someone--small");
    fs::create_dir_all(&model).unwrap();
    let weights = small_vit(&model);
    let stored = |name: &str| {
        let bytes = fs::read(model.join(name)).unwrap();
        let blake3 = blake3::hash(&bytes).to_hex().to_string();
        (name.to_string(), Stored { bytes: bytes.len() as u64, blake3 })
    };
    let record = Record {
        name: "someone/small".into(),
        source: "someone/small".into(),
        revision: "main".into(),
        note: String::new(),
        files: ["model.safetensors", "config.json"].map(stored).into(),
    };
    fs::write(model.join("fetched.json"), serde_json::to_vec(&record).unwrap()).unwrap();
    let args = [through("someone/small"), vec!["--steps".into(), "200".into()]].concat();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let variables = [("LUCID_CACHE", cache.as_path())];
    Run::start_with(&folder, &args, &variables).end_well();
    file_is_named(&folder, &weights, &variables);
}

#[test]
fn inside_a_checkpoint_it_is_refused_and_named_even_if_checksums_are_made_to_fit() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, weights) = (dir.path().join("run"), small_vit(dir.path()));
    let args = [through(weights.to_str().unwrap()), vec!["--steps".into(), "200".into()]].concat();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    Run::start(&folder, &args).end_well();
    let saved = checkpoint(&folder);
    let newest = fs::read_dir(folder.join("checkpoints")).unwrap().flatten().map(|e| e.path()).max().unwrap();

    let own = |key: &&String| key.starts_with(&format!("params/{STATISTIC}/"));
    let key = saved.agent.keys().filter(own).max_by_key(|key| saved.agent[*key].bytes.len()).unwrap();
    let file = newest.join("agent.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let find = |bytes: &[u8]| positions(bytes, &saved.agent[key].bytes).next();
    let at = find(&bytes).or_else(|| find(&bytes[2..]));
    bytes[at.unwrap()] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let verify = || lucid(&["params", "verify", folder.to_str().unwrap()]);
    let (ok, text) = verify();
    assert!(!ok && flat(&text).contains("agent.safetensors"), "{text}");

    let complete = newest.join("complete.json");
    let mut digests: BTreeMap<String, String> = serde_json::from_slice(&fs::read(&complete).unwrap()).unwrap();
    digests.insert("agent.safetensors".into(), blake3::hash(&bytes).to_hex().to_string());
    fs::write(&complete, serde_json::to_vec(&digests).unwrap()).unwrap();
    let (ok, text) = verify();
    assert!(!ok && flat(&text).contains(key.strip_prefix("params/").unwrap()), "{text}");
    let (ok, text) = lucid(&["train", "--run", folder.to_str().unwrap(), "--steps", "400"]);
    assert!(!ok && flat(&text).contains(key.strip_prefix("params/").unwrap()), "{text}");
}
