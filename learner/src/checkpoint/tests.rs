//! Checkpoints that are whole, half written, and damaged.

use shared::config::ReplayConfig;
use shared::experience::StreamId;

use super::*;
use crate::replay::{Damaged, Replay};

const STREAM: StreamId = StreamId { actor: 0, generation: 0, env: 0 };

struct Run {
    dir: tempfile::TempDir,
    replay: Replay,
    steps: u64,
}

impl Run {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let replay = Replay::new(&Self::config(), 5, 1, 3, &dir.path().join("replay")).unwrap();
        Self { dir, replay, steps: 0 }
    }

    fn config() -> ReplayConfig {
        ReplayConfig {
            size: 20,
            gib: 1.0,
            disk_gib: 0.0,
            online: true,
            chunksize: 4,
            fracs: Default::default(),
            prio: Default::default(),
            recexp: 1.0,
            import: String::new(),
            import_updates: 0,
        }
    }

    fn checkpoints(&self) -> Checkpoints {
        Checkpoints::new(self.dir.path(), 2)
    }

    /// A cut after some more experience.
    fn cut(&mut self, updates: u64) -> Cut {
        self.replay.insert(&crate::replay::tests::chunk(STREAM, self.steps, 10)).unwrap();
        self.steps += 10;
        let pending = vec![self.replay.sample(2).unwrap(), self.replay.sample(2).unwrap()];
        let agent = [
            ("params/enc/kernel", Array::f32(&[2], &[updates as f32, 0.5])),
            ("opt/step", Array::u64(&[], &[updates])),
        ];
        Cut {
            agent: agent.map(|(k, a)| (k.to_string(), a)).into(),
            counters: Counters {
                env_steps: self.steps,
                updates,
                elapsed: 0.1,
                generations: [(0, 2)].into(),
                ..Counters::default()
            },
            limiter: LimiterState { open: true, due: 12.25 },
            replay: self.replay.save().unwrap(),
            pending,
            frozen: [("enc/vit".to_string(), frozen())].into(),
            config: "c".into(),
            layout: "l".into(),
            journal: updates,
        }
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path().join("checkpoints")).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn load(&self, cut: &Cut) -> Replay {
        let dir = self.dir.path().join("replay");
        Replay::load(&Self::config(), 5, 1, &dir, &cut.replay, Damaged::Refuse).unwrap().0
    }
}

fn frozen() -> Frozen {
    let tensors = [("enc/vit/cls".to_string(), "cd".to_string())].into();
    Frozen { digest: "ab".into(), source: "vit.safetensors".into(), tensors }
}

/// Put a file into a checkpoint, with the checksum that makes it trusted.
fn forge(folder: &Path, name: &str, bytes: &[u8]) {
    fs::write(folder.join(name), bytes).unwrap();
    let mut digests: BTreeMap<String, String> = read_json(&folder.join(COMPLETE)).unwrap();
    digests.insert(name.into(), blake3::hash(bytes).to_hex().to_string());
    fs::write(folder.join(COMPLETE), serde_json::to_vec(&digests).unwrap()).unwrap();
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 60, ..Default::default() })]
    #[test]
    fn a_forged_file_with_a_checksum_made_to_fit_is_read_or_refused(
        file in proptest::sample::select(vec![AGENT, STATE, REPLAY, "pending-0.safetensors"]),
        changes in proptest::collection::vec(proptest::prelude::any::<(proptest::sample::Index, u8)>(), 1..6),
        cut: proptest::sample::Index,
        whole: bool,
    ) {
        let mut run = Run::new();
        let cut_of = run.cut(4);
        let folder = run.checkpoints().save(&cut_of).unwrap();
        let mut bytes = fs::read(folder.join(file)).unwrap();
        changes.into_iter().for_each(|(at, byte)| *at.get_mut(&mut bytes) = byte);
        bytes.truncate(if whole { bytes.len() } else { cut.index(bytes.len()) });
        forge(&folder, file, &bytes);
        let _ = run.checkpoints().latest();
    }
}

#[test]
fn what_is_saved_comes_back_and_the_newest_are_kept() {
    let mut run = Run::new();
    assert!(run.checkpoints().latest().unwrap().is_none());
    let mut last = None;
    for updates in [7, 9, 30, 30] {
        let cut = run.cut(updates);
        run.checkpoints().save(&cut).unwrap();
        last = Some(cut);
    }
    assert_eq!(run.names(), ["000000000030", "000000000030-0001"], "two at one update do not replace each other");
    let loaded = run.checkpoints().latest().unwrap().unwrap();
    assert_eq!(Some(&loaded.cut), last.as_ref());
    assert!(loaded.damaged.is_empty());
    assert_eq!(run.load(&loaded.cut).sample(4).unwrap(), run.replay.sample(4).unwrap());
}

#[test]
fn replay_files_live_as_long_as_a_kept_checkpoint_names_them() {
    let mut run = Run::new();
    let cuts: Vec<_> = [1, 2, 3].map(|updates| run.cut(updates)).into();
    let orphan = run.checkpoints().replay_dir().join("a0000-g0000-e0000-0000000000.000099.steps.safetensors");
    fs::write(&orphan, "of a save without a checkpoint").unwrap();
    for cut in &cuts {
        run.checkpoints().save(cut).unwrap();
    }
    let under_way = run.cut(4);
    run.load(&cuts[1]);
    run.load(&cuts[2]);
    run.load(&under_way);
    let gone = |file: &&str| !run.checkpoints().replay_dir().join(file).exists();
    assert!(cuts[0].replay.files().filter(gone).count() > 0, "what only the deleted checkpoint named is deleted");
    assert!(orphan.exists());
    let loaded = run.checkpoints().latest().unwrap().unwrap();
    run.checkpoints().resumed_from(&loaded).unwrap();
    assert!(!orphan.exists());
    run.load(&cuts[1]);
    run.load(&cuts[2]);
}

/// Stop after any number of the files of a checkpoint, also in the middle of one: the previous one is found.
#[test]
fn a_crash_at_any_point_of_writing_leaves_the_previous_checkpoint() {
    let mut run = Run::new();
    let before = run.cut(1);
    run.checkpoints().save(&before).unwrap();
    let after = run.cut(2);
    let whole = run.dir.path().join("whole");
    write_folder(&whole, &after).unwrap();
    let order = [AGENT, "pending-0.safetensors", "pending-1.safetensors", STATE, REPLAY, COMPLETE];
    assert_eq!(fs::read_dir(&whole).unwrap().count(), order.len());
    for written in 0..=order.len() {
        let aside = run.dir.path().join("checkpoints/000000000002.tmp");
        fs::create_dir(&aside).unwrap();
        for name in &order[..written] {
            fs::copy(whole.join(name), aside.join(name)).unwrap();
        }
        if let Some(name) = order.get(written) {
            let bytes = fs::read(whole.join(name)).unwrap();
            fs::write(aside.join(format!("{name}.tmp")), &bytes[..bytes.len() / 2]).unwrap();
        }
        assert_eq!(run.checkpoints().latest().unwrap().unwrap().cut, before);
        let moved = run.checkpoints().set_incomplete_aside().unwrap();
        assert_eq!(moved, [aside.with_extension("incomplete")]);
    }
    run.checkpoints().save(&after).unwrap();
    assert_eq!(run.checkpoints().latest().unwrap().unwrap().cut, after);
}

#[test]
fn a_damaged_newest_checkpoint_is_named_and_the_one_before_is_used() {
    for file in [AGENT, "pending-1.safetensors", STATE, REPLAY, COMPLETE] {
        let mut run = Run::new();
        let (old, new) = (run.cut(1), run.cut(2));
        let first = run.checkpoints().save(&old).unwrap();
        let newest = run.checkpoints().save(&new).unwrap();
        let path = newest.join(file);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x80;
        fs::write(&path, bytes).unwrap();
        let loaded = run.checkpoints().latest().unwrap().unwrap();
        assert_eq!((&loaded.cut, &loaded.path), (&old, &first), "{file}");
        assert!(loaded.damaged[0].to_string().contains("000000000002"), "{}", loaded.damaged[0]);
        run.checkpoints().resumed_from(&loaded).unwrap();
        assert_eq!(run.names(), ["000000000001", "000000000002.incomplete"]);
        run.load(&loaded.cut);
        fs::remove_file(first.join(STATE)).unwrap();
        let error = run.checkpoints().latest().err().unwrap();
        assert!(error.to_string().contains("state.json"), "never a silent start from nothing: {error}");
    }
}
