//! Replay against a plain model, and across save and load.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use shared::array::{Array, DType};
use shared::config::{FracsConfig, ReplayConfig};
use shared::experience::{Chunk, DETER, STOCH, StreamId, UPDATE, VERSION};

use super::layout::Layout;
use super::*;

const LENGTH: usize = 5;
const CONTEXT: usize = 1;

fn config() -> ReplayConfig {
    ReplayConfig {
        size: 40,
        gib: 1.0,
        disk_gib: 0.0,
        online: true,
        chunksize: 4,
        import: String::new(),
        import_updates: 0,
        fracs: Default::default(),
        prio: Default::default(),
        recexp: 1.0,
    }
}

fn replay(config: &ReplayConfig, dir: &Path) -> Replay {
    Replay::new(config, LENGTH, CONTEXT, 7, dir).unwrap()
}

fn load(
    dir: &Path,
    manifest: &Manifest,
    damaged: Damaged,
) -> Result<(Replay, Vec<crate::durable::FileError>), ReplayError> {
    Replay::load(&config(), LENGTH, CONTEXT, dir, manifest, damaged)
}

fn stream(env: u32) -> StreamId {
    StreamId { actor: 0, generation: 0, env }
}

/// Steps whose content tells where they came from; an episode starts at every seventh.
pub(crate) fn chunk(stream: StreamId, first: u64, len: usize) -> Chunk {
    let steps: Vec<u64> = (first..first + len as u64).collect();
    let floats = |scale: f32| steps.iter().flat_map(|s| [stream.env as f32, *s as f32 * scale]).collect::<Vec<_>>();
    let columns = [
        ("is_first", Array::u8(&[len], &steps.iter().map(|s| (s % 7 == 0) as u8).collect::<Vec<_>>())),
        ("is_last", Array::u8(&[len], &vec![0; len])),
        ("vector", Array::f32(&[len, 2], &floats(1.0))),
        (DETER, Array::f32(&[len, 2], &floats(10.0))),
        (STOCH, Array::f32(&[len, 1, 2], &floats(100.0))),
        (VERSION, Array::u64(&[len], &steps)),
        (UPDATE, Array::u64(&[len], &steps)),
        (LATENT_UPDATE, Array::u64(&[len], &steps)),
    ];
    Chunk { stream, first_step: first, columns: columns.map(|(k, a)| (k.to_string(), a)).into() }
}

#[test]
fn a_sample_starts_like_an_episode_and_ends_episodes_where_the_next_begins() {
    let dir = tempfile::tempdir().unwrap();
    let replay = replay(&config(), dir.path());
    replay.insert(&chunk(stream(0), 0, 30)).unwrap();
    let sampled = replay.sample(64).unwrap();
    let steps = sampled.batch["lucid/version"].values::<u64>();
    let (first, last) = (&sampled.batch["is_first"].bytes, &sampled.batch["is_last"].bytes);
    assert_eq!(sampled.batch["vector"].shape, [64, LENGTH, 2]);
    assert_eq!(sampled.batch[CONSEC], Array::zeros(DType::I32, &[64]));
    for (i, step) in steps.iter().enumerate() {
        assert_eq!(first[i], (i % LENGTH == 0 || step % 7 == 0) as u8);
        assert_eq!(last[i], (i % LENGTH < LENGTH - 1 && step % 7 == 6) as u8);
    }
    for (row, id) in sampled.ids.iter().enumerate() {
        assert_eq!(id.step, steps[row * LENGTH + CONTEXT], "the id is that of the first trained step");
    }
}

#[test]
fn the_online_queue_passes_over_a_stream_once_and_comes_first() {
    let dir = tempfile::tempdir().unwrap();
    let replay = replay(&config(), dir.path());
    replay.insert(&chunk(stream(0), 0, 16)).unwrap();
    let sampled = replay.sample(4).unwrap();
    assert_eq!(sampled.from_online, 3);
    assert_eq!(sampled.ids.iter().take(3).map(|id| id.step).collect::<Vec<_>>(), [1, 6, 11]);
    assert_eq!(replay.sample(4).unwrap().from_online, 0);
}

#[test]
fn an_imported_stream_is_not_new_and_goes_with_its_items() {
    let dir = tempfile::tempdir().unwrap();
    let replay = replay(&config(), dir.path());
    let imported = |env| StreamId { actor: IMPORTED, generation: 0, env };
    for (env, steps) in [(0, 30), (1, 3)] {
        replay.insert(&chunk(imported(env), 0, steps)).unwrap();
        replay.close(imported(env));
    }
    let stats = replay.stats();
    assert_eq!((stats.streams, stats.steps, stats.inserted), (1, 30, 33), "one too short for an item is gone");
    assert_eq!(replay.sample(4).unwrap().from_online, 0);
    replay.insert(&chunk(stream(0), 0, 60)).unwrap();
    assert_eq!(replay.stats().streams, 1, "newer steps take its place");
    assert!(replay.sample(4).unwrap().from_online > 0);
}

#[test]
fn a_look_changes_nothing_and_has_the_first_steps_of_items() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config();
    config.fracs = FracsConfig { uniform: 0.5, priority: 0.5, recency: 0.0 };
    let [looked_at, other] = [replay(&config, dir.path()), replay(&config, dir.path())];
    for replay in [&looked_at, &other] {
        replay.insert(&chunk(stream(0), 0, 30)).unwrap();
    }
    let look = looked_at.look(64, 3, 9).unwrap();
    assert_eq!(look.batch["vector"].shape, [64, 3, 2]);
    let steps = look.batch["lucid/version"].values::<u64>();
    assert!(steps.chunks(3).all(|row| row[1] == row[0] + 1 && row[2] == row[0] + 2 && row[0] + LENGTH as u64 <= 30));
    assert!(look.batch["is_first"].bytes.iter().step_by(3).all(|first| *first == 1), "a sample starts like an episode");
    assert_eq!((&look, look.from_online), (&looked_at.look(64, 3, 9).unwrap(), 0));
    assert_ne!(look.ids, looked_at.look(64, 3, 10).unwrap().ids);
    assert_eq!(looked_at.look(1, 100, 0).unwrap().batch["is_first"].shape, [1, LENGTH], "an item has no more steps");
    // The queue of new items, the random state and the priorities are those of a replay that nobody looked at.
    for _ in 0..3 {
        assert_eq!(looked_at.sample(4).unwrap(), other.sample(4).unwrap());
    }
}

#[test]
fn a_sample_is_cut_in_consecutive_pieces_that_overlap_by_the_context() {
    let dir = tempfile::tempdir().unwrap();
    let replay = replay(&config(), dir.path());
    replay.insert(&chunk(stream(0), 0, LENGTH)).unwrap();
    let pieces = replay.sample(2).unwrap().pieces(2, CONTEXT).unwrap();
    let steps: Vec<_> = pieces.iter().map(|p| p.batch["lucid/version"].values::<u64>()).collect();
    assert_eq!(steps, [[0, 1, 2, 0, 1, 2], [2, 3, 4, 2, 3, 4]]);
    assert_eq!(pieces[1].batch[CONSEC].values::<i32>(), [1, 1]);
    assert_eq!(pieces[1].batch["is_first"].bytes, [0; 6], "only the whole sample starts like an episode");
    assert_eq!(pieces[1].ids[0].step, 3);
    assert!(replay.sample(2).unwrap().pieces(3, CONTEXT).is_err());
}

#[test]
fn refused_chunks_name_stream_and_column_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let replay = replay(&config(), dir.path());
    replay.insert(&chunk(stream(0), 0, 6)).unwrap();
    let before = replay.stats();
    let broken = |change: &dyn Fn(&mut BTreeMap<String, Array>)| {
        let mut chunk = chunk(stream(0), 6, 3);
        change(&mut chunk.columns);
        let error = replay.insert(&chunk).unwrap_err().to_string();
        assert!(error.contains("actor: 0"), "{error}");
        error
    };
    assert!(broken(&|c| drop(c.remove("vector"))).contains("vector"));
    assert!(broken(&|c| drop(c.insert("extra".into(), Array::zeros(DType::U8, &[3])))).contains("extra"));
    assert!(broken(&|c| drop(c.insert("vector".into(), Array::zeros(DType::F16, &[3, 2])))).contains("F16"));
    assert!(broken(&|c| drop(c.insert("vector".into(), Array::zeros(DType::F32, &[3, 4])))).contains("[3, 4]"));
    assert!(broken(&|c| drop(c.insert("vector".into(), Array::zeros(DType::F32, &[])))).contains("vector"));
    assert!(broken(&|c| c.get_mut("vector").unwrap().bytes.truncate(5)).contains("5 bytes"));
    assert!(broken(&|c| c.values_mut().for_each(|a| *a = Array::zeros(a.dtype, &[0]))).contains("0"));
    assert!(matches!(replay.insert(&chunk(stream(0), 7, 3)), Err(ReplayError::Gap { expected: 6, got: 7, .. })));
    assert!(matches!(replay.insert(&chunk(stream(1), 4, 3)), Err(ReplayError::Gap { expected: 0, .. })));
    assert_eq!(replay.stats(), before);
    assert_eq!(replay.insert(&chunk(stream(0), 6, 3)).unwrap(), Inserted { steps: 3, items: 3 });
}

#[test]
fn a_chunk_sent_again_adds_nothing_and_an_overlap_only_what_is_new() {
    let dir = tempfile::tempdir().unwrap();
    let replay = replay(&config(), dir.path());
    replay.insert(&chunk(stream(0), 0, 6)).unwrap();
    assert_eq!(replay.insert(&chunk(stream(0), 0, 6)).unwrap(), Inserted::default());
    assert_eq!(replay.insert(&chunk(stream(0), 4, 4)).unwrap(), Inserted { steps: 2, items: 2 });
}

#[test]
fn a_restarted_actor_ends_its_old_streams() {
    let dir = tempfile::tempdir().unwrap();
    let replay = replay(&config(), dir.path());
    replay.insert(&chunk(stream(0), 0, 3)).unwrap();
    replay.insert(&chunk(stream(1), 0, 8)).unwrap();
    let newer = StreamId { generation: 1, ..stream(0) };
    replay.insert(&chunk(newer, 0, 3)).unwrap();
    assert_eq!((replay.stats().steps, replay.stats().streams), (11, 2), "the old stream without an item is freed");
    assert!(matches!(replay.insert(&chunk(stream(1), 8, 3)), Err(ReplayError::Ended { newest: 1, .. })));
    replay.insert(&chunk(newer, 3, 60)).unwrap();
    assert_eq!(replay.stats().streams, 1, "and so is the other, with its last item");
}

#[test]
fn a_byte_cap_below_the_blocks_being_written_says_what_to_change() {
    let dir = tempfile::tempdir().unwrap();
    let tiny = ReplayConfig { gib: 100.0 / (1u64 << 30) as f64, ..config() };
    let error = replay(&tiny, dir.path()).insert(&chunk(stream(0), 0, 8)).unwrap_err().to_string();
    assert!(error.contains("replay.gib") && error.contains("1 streams"), "{error}");
    assert!(Replay::new(&ReplayConfig { size: 0, ..config() }, LENGTH, CONTEXT, 0, dir.path()).is_err());
    assert!(Replay::new(&config(), 1, 1, 0, dir.path()).is_err());
}

#[test]
fn latents_that_do_not_fit_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let replay = replay(&config(), dir.path());
    replay.insert(&chunk(stream(0), 0, 8)).unwrap();
    let ids = replay.sample(1).unwrap().ids;
    let (deter, stoch) = (Array::zeros(DType::F32, &[1, 4, 2]), Array::zeros(DType::F32, &[1, 4, 2, 2]));
    let error = replay.write_latents(&ids, &deter, &stoch, 1).unwrap_err().to_string();
    assert!(error.contains("dyn/stoch") && error.contains("[1, 4, 2, 2]"), "{error}");
}

#[test]
fn replay_of_a_run_whose_latents_had_no_dates_goes_on_without() {
    let undated = |first| {
        let mut chunk = chunk(stream(0), first, 8);
        chunk.columns.remove(LATENT_UPDATE);
        chunk
    };
    let dir = tempfile::tempdir().unwrap();
    let old = replay(&config(), dir.path());
    assert!(old.dates_latents());
    old.insert(&undated(0)).unwrap();
    let manifest = old.save().unwrap();
    let (restored, _) = load(dir.path(), &manifest, Damaged::Refuse).unwrap();
    assert!(!restored.dates_latents());
    restored.insert(&undated(8)).unwrap();
    let ids = restored.sample(1).unwrap().ids;
    let latents =
        |width: &[usize]| Array::f32(&[&[1, 2], width].concat(), &[-1.0; 4][..2 * width.iter().product::<usize>()]);
    restored.write_latents(&ids, &latents(&[2]), &latents(&[1, 2]), 1).unwrap();
}

#[test]
fn a_save_holds_the_instant_of_its_cut_and_old_files_stay() {
    for disk_gib in [0.0, 1.0] {
        save_while_training(&ReplayConfig { disk_gib, ..config() });
    }
}

fn save_while_training(config: &ReplayConfig) {
    let dir = tempfile::tempdir().unwrap();
    let replay = replay(config, dir.path());
    let load = |manifest: &Manifest| {
        Replay::load(config, LENGTH, CONTEXT, dir.path(), manifest, Damaged::Refuse).map(|(replay, _)| replay)
    };
    replay.insert(&chunk(stream(0), 0, 10)).unwrap();
    replay.unload().unwrap();
    let first = replay.save().unwrap();
    let pending = replay.cut();
    let sampled = replay.sample(3).unwrap();
    let latents = |width: &[usize]| Array::f32(&[&[3, 4], width].concat(), &[-1.0; 24]);
    replay.write_latents(&sampled.ids, &latents(&[2]), &latents(&[1, 2]), 1).unwrap();
    // Another cut before the first is written, and more training before either is.
    let after = replay.cut();
    let of_after = replay.sample(3).unwrap();
    replay.write_latents(&of_after.ids, &latents(&[2]), &latents(&[1, 2]), 1).unwrap();
    replay.write_latents(&sampled.ids, &latents(&[2]), &latents(&[1, 2]), 1).unwrap();
    replay.insert(&chunk(stream(0), 10, 5)).unwrap();
    replay.unload().unwrap();
    let second = pending.write().unwrap();
    let after = after.write().unwrap();
    assert_eq!(load(&after).unwrap().sample(3).unwrap(), of_after);
    let third = replay.save().unwrap();
    let rewritten: Vec<_> = third.files().filter(|f| !first.files().any(|g| g == *f)).collect();
    assert!(
        rewritten.iter().filter(|f| f.contains("steps")).count() < 3,
        "full blocks are written once: {rewritten:?}"
    );
    for manifest in [&first, &second] {
        let restored = load(manifest).unwrap();
        assert_eq!(restored.sample(3).unwrap(), sampled);
    }
    let restored = load(&third).unwrap();
    assert_eq!(restored.sample(50).unwrap(), replay.sample(50).unwrap());
    let keep = third.files().map(String::from).collect();
    assert!(!sweep(dir.path(), &keep).unwrap().is_empty());
    assert!(load(&third).is_ok());
    assert!(load(&first).is_err());
}

#[test]
fn a_file_cut_short_is_named_and_can_be_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let replay = replay(&config(), dir.path());
    replay.insert(&chunk(stream(0), 0, 24)).unwrap();
    let manifest = replay.save().unwrap();
    let file = manifest.streams[0].blocks[2].parts[0].file.clone();
    let bytes = std::fs::read(dir.path().join(&file)).unwrap();
    std::fs::write(dir.path().join(&file), &bytes[..bytes.len() / 2]).unwrap();
    let last = &manifest.streams[0].blocks[5].parts[1].file;
    std::fs::remove_file(dir.path().join(last)).unwrap();
    let error = load(dir.path(), &manifest, Damaged::Refuse).err().unwrap().to_string();
    assert!(error.contains(&file) && error.contains("--drop-damaged-replay"), "{error}");
    let (restored, dropped) = load(dir.path(), &manifest, Damaged::Drop).unwrap();
    assert_eq!((dropped.len(), restored.stats().steps), (2, 16));
    restored.insert(&chunk(stream(0), 24, 6)).unwrap();
    let steps = restored.sample(200).unwrap().batch["lucid/version"].values::<u64>();
    assert!(steps.iter().all(|s| !(8..12).contains(s) && !(20..24).contains(s)));
    assert!(steps.chunks(LENGTH).all(|row| row.windows(2).all(|w| w[1] == w[0] + 1)));
    assert!(steps.contains(&29), "the stream goes on behind the hole");
}

#[test]
fn a_file_that_stays_on_disk_is_checked_before_anything_of_it_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let config = ReplayConfig { disk_gib: 1.0, ..config() };
    let replay = replay(&config, dir.path());
    replay.insert(&chunk(stream(0), 0, 24)).unwrap();
    replay.unload().unwrap();
    let manifest = replay.save().unwrap();
    let load = |damaged| Replay::load(&config, LENGTH, CONTEXT, dir.path(), &manifest, damaged);
    let untouched = load(Damaged::Refuse).unwrap().0;
    assert_eq!(untouched.sample(50).unwrap(), replay.sample(50).unwrap());
    let file = manifest.streams[0].blocks[2].parts[0].file.clone();
    let whole = std::fs::read(dir.path().join(&file)).unwrap();
    let mut altered = whole.clone();
    *altered.last_mut().unwrap() ^= 1;
    std::fs::write(dir.path().join(&file), &altered).unwrap();
    let error = load(Damaged::Refuse).unwrap().0.sample(200).unwrap_err().to_string();
    assert!(error.contains(&file) && error.contains("--drop-damaged-replay"), "{error}");
    let (restored, dropped) = load(Damaged::Drop).unwrap();
    assert_eq!((dropped.len(), restored.stats().steps), (1, 20));
    // One that is too short, or gone, is found at once.
    std::fs::write(dir.path().join(&file), &whole[..whole.len() - 1]).unwrap();
    assert!(load(Damaged::Refuse).err().unwrap().to_string().contains(&file));
    std::fs::remove_file(dir.path().join(&file)).unwrap();
    assert!(load(Damaged::Refuse).err().unwrap().to_string().contains(&file));
}

#[test]
fn a_manifest_of_another_configuration_or_edited_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let replay = replay(&config(), dir.path());
    replay.insert(&chunk(stream(0), 0, 24)).unwrap();
    let manifest = replay.save().unwrap();
    let other = Replay::load(&config(), LENGTH + 1, CONTEXT, dir.path(), &manifest, Damaged::Refuse);
    assert!(other.err().unwrap().to_string().contains("agent.batch_length"));
    let mut edited = manifest.clone();
    edited.items[0].count += 100;
    assert!(matches!(load(dir.path(), &edited, Damaged::Refuse), Err(ReplayError::Manifest { .. })));
    let mut edited = manifest.clone();
    edited.inserted += 1;
    assert!(matches!(load(dir.path(), &edited, Damaged::Refuse), Err(ReplayError::Manifest { .. })));
}

/// A saved replay, and its manifest as JSON.
fn saved(dir: &Path) -> serde_json::Value {
    let replay = replay(&by_priority(), dir);
    replay.insert(&chunk(stream(0), 0, 24)).unwrap();
    replay.insert(&chunk(stream(1), 0, 10)).unwrap();
    replay.sample(3).unwrap();
    serde_json::to_value(replay.save().unwrap()).unwrap()
}

fn by_priority() -> ReplayConfig {
    ReplayConfig { fracs: FracsConfig { uniform: 0.5, recency: 0.0, priority: 0.5 }, ..config() }
}

/// Load a manifest that somebody made up; if that works, replay can be used.
fn load_hostile(dir: &Path, manifest: serde_json::Value) -> Result<(), String> {
    let manifest: Manifest = serde_json::from_value(manifest).map_err(|e| e.to_string())?;
    let load = |damaged| {
        let (replay, _) = Replay::load(&by_priority(), LENGTH, CONTEXT, dir, &manifest, damaged)?;
        if replay.stats().items > 0 { replay.sample(20).map(drop) } else { Ok(()) }
    };
    let [whole, rest] = [Damaged::Refuse, Damaged::Drop].map(load);
    whole.and(rest).map_err(|e| e.to_string())
}

#[test]
fn a_manifest_whose_numbers_cannot_be_is_refused_before_memory_is_taken_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = saved(dir.path());
    load_hostile(dir.path(), manifest.clone()).unwrap();
    let huge = serde_json::json!(1u64 << 62);
    for (path, value, told) in [
        ("/items/0/count", huge.clone(), "more items than steps"),
        ("/streams/0/next_item", huge.clone(), "contradicts its blocks"),
        ("/streams/0/next", serde_json::json!(u64::MAX), "contradicts its blocks"),
        ("/streams/0/blocks/0/len", huge.clone(), "overlap"),
        ("/streams/0/blocks/0/first", serde_json::json!(u64::MAX), "too many"),
        ("/streams/0/blocks/5/first", huge.clone(), "contradicts its blocks"),
        ("/columns/0/shape", serde_json::json!([1u64 << 40, 1u64 << 40]), "a step has None bytes"),
        ("/streams/0/blocks/0/parts/0/file", serde_json::json!("../../secret"), "not in the folder"),
        ("/streams/0/blocks/0/parts/0/file", serde_json::json!("/etc/passwd"), "not in the folder"),
        ("/rng/s", serde_json::json!([0, 0, 0, 0]), "nothing but zeros"),
        ("/evicted", huge, "contradict each other"),
    ] {
        let mut edited = manifest.clone();
        *edited.pointer_mut(path).unwrap() = value;
        let error = load_hostile(dir.path(), edited).unwrap_err();
        assert!(error.contains(told), "{path}: {error}");
    }
    // As if steps far apart had been lost between them: memory for the priorities of all would be taken.
    let mut apart = manifest;
    let far = 1u64 << 40;
    for (path, value) in [("next", far + 4), ("next_item", far + 4), ("blocks/5/first", far)] {
        *apart.pointer_mut(&format!("/streams/0/{path}")).unwrap() = serde_json::json!(value);
    }
    assert!(load_hostile(dir.path(), apart).unwrap_err().contains("missing between blocks"));
}

#[test]
fn no_file_outside_of_its_folder_is_among_those_that_go_with_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let mut manifest: Manifest = serde_json::from_value(saved(dir.path())).unwrap();
    let count = manifest.files().count();
    manifest.streams[0].blocks[0].parts[0].file = "../agent.safetensors".into();
    manifest.streams[0].blocks[0].parts[1].file = "/etc/hosts".into();
    assert_eq!(manifest.files().count(), count - 2);
}

/// All numbers of a manifest, by pointer.
fn numbers(value: &serde_json::Value, at: String, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Number(_) => found.push(at),
        serde_json::Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, item)| numbers(item, format!("{at}/{i}"), found));
        }
        serde_json::Value::Object(items) => {
            items.iter().for_each(|(key, item)| numbers(item, format!("{at}/{key}"), found));
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn a_manifest_with_any_changed_numbers_is_loaded_or_refused(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), number()), 1..4),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut manifest = saved(dir.path());
        let mut places = vec![];
        numbers(&manifest, String::new(), &mut places);
        for (place, number) in changes {
            *manifest.pointer_mut(place.get::<String>(&places).as_str()).unwrap() = serde_json::json!(number);
        }
        let _ = load_hostile(dir.path(), manifest);
    }
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..40, any::<u64>(), Just(u64::MAX), Just(1 << 62), Just(i64::MAX as u64)]
}

#[test]
fn an_empty_replay_says_what_it_waits_for_and_can_be_saved() {
    let dir = tempfile::tempdir().unwrap();
    let empty = replay(&config(), dir.path());
    let (restored, _) = load(dir.path(), &empty.save().unwrap(), Damaged::Refuse).unwrap();
    restored.insert(&chunk(stream(0), 0, LENGTH - 1)).unwrap();
    let error = restored.sample(1).unwrap_err().to_string();
    assert!(error.contains("4 steps are stored") && error.contains("needs 5"), "{error}");
    restored.insert(&chunk(stream(0), LENGTH as u64 - 1, 1)).unwrap();
    assert_eq!(restored.sample(1).unwrap().from_online, 1);
}

#[test]
fn priorities_survive_the_loss_of_a_file_and_can_begin_later() {
    let dir = tempfile::tempdir().unwrap();
    let fracs = FracsConfig { uniform: 0.0, priority: 1.0, recency: 0.0 };
    let by_priority = ReplayConfig { fracs, online: false, ..config() };
    let replay = Replay::new(&by_priority, LENGTH, CONTEXT, 7, dir.path()).unwrap();
    replay.insert(&chunk(stream(0), 0, 24)).unwrap();
    replay.insert(&chunk(stream(1), 0, 24)).unwrap();
    let drawn = replay.sample(3).unwrap().batch["vector"].values::<f32>();
    let manifest = replay.save().unwrap();
    std::fs::remove_file(dir.path().join(&manifest.streams[0].blocks[2].parts[0].file)).unwrap();
    let load = |config: &ReplayConfig, manifest: &Manifest| {
        Replay::load(config, LENGTH, CONTEXT, dir.path(), manifest, Damaged::Drop).unwrap().0
    };
    let known: Vec<&[f32]> = drawn.chunks(2).collect();
    let steps = load(&by_priority, &manifest).sample(1).unwrap().batch["vector"].values::<f32>();
    assert!(steps.chunks(2).any(|step| !known.contains(&step)), "what was not drawn before comes first");
    let before = Manifest { priority: None, ..manifest.clone() };
    assert!(load(&by_priority, &before).sample(50).is_ok() && load(&config(), &manifest).sample(50).is_ok());
    let record = manifest.priority.clone().unwrap_or_default();
    let edited = Manifest { priority: Some(PriorityRecord { leaves: vec![(0, 3)], ..record }), ..manifest };
    let refused = Replay::load(&by_priority, LENGTH, CONTEXT, dir.path(), &edited, Damaged::Drop);
    assert!(refused.err().unwrap().to_string().contains("priorities"));
}

#[derive(Clone, Debug)]
enum Op {
    Insert { env: u32, len: usize },
    Resend { env: u32 },
    Train { rows: usize },
    Reload,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0u32..3, 1usize..9).prop_map(|(env, len)| Op::Insert { env, len }),
        1 => (0u32..3).prop_map(|env| Op::Resend { env }),
        4 => (1usize..5).prop_map(|rows| Op::Train { rows }),
        1 => Just(Op::Reload),
    ]
}

/// Every step ever inserted, with the latents last written to it and when that was.
type Model = BTreeMap<(u32, u64), ([f32; 2], u64)>;

/// Every row is a contiguous run of one stream with the content of the model.
fn check_sample(model: &Model, sampled: &Sampled) {
    let [steps, dates] = ["lucid/version", LATENT_UPDATE].map(|key| sampled.batch[key].values::<u64>());
    let [vector, deter, stoch] = ["vector", DETER, STOCH].map(|key| sampled.batch[key].values::<f32>());
    for (row, id) in sampled.ids.iter().enumerate() {
        for t in 0..LENGTH {
            let (i, step) = (row * LENGTH + t, id.step + t as u64 - CONTEXT as u64);
            assert_eq!(steps[i], step);
            assert_eq!(vector[2 * i..2 * i + 2], [id.stream.env as f32, step as f32]);
            let latent = model[&(id.stream.env, step)];
            assert_eq!(([deter[2 * i + 1], stoch[2 * i + 1]], dates[i]), latent, "latents of step {step}");
        }
    }
}

fn write_back(model: &mut Model, replay: &Replay, ids: &[StepId], update: u64) {
    let stamp = -(update as f32);
    let trained = LENGTH - CONTEXT;
    let values = vec![stamp; ids.len() * trained * 2];
    let deter = Array::f32(&[ids.len(), trained, 2], &values);
    let stoch = Array::f32(&[ids.len(), trained, 1, 2], &values);
    replay.write_latents(ids, &deter, &stoch, update).unwrap();
    for id in ids {
        model.extend((0..trained as u64).map(|t| ((id.stream.env, id.step + t), ([stamp; 2], update))));
    }
}

fn files(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn full_blocks_are_on_disk_and_leave_with_their_steps() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::of(&chunk(stream(0), 0, 1)).unwrap();
    // Four blocks of four steps.
    let disk_gib = (16 * layout.step_bytes()) as f64 / (1u64 << 30) as f64;
    let on_disk = replay(&ReplayConfig { disk_gib, ..config() }, dir.path());
    let in_memory = replay(&ReplayConfig { size: 12, ..config() }, dir.path());
    for first in (0..40).step_by(2) {
        on_disk.insert(&chunk(stream(0), first, 2)).unwrap();
        on_disk.unload().unwrap();
        in_memory.insert(&chunk(stream(0), first, 2)).unwrap();
        assert!(files(dir.path()).len() <= 4, "{:?}", files(dir.path()));
    }
    let stats = on_disk.stats();
    assert_eq!(stats.disk_bytes, 16 * layout.step_bytes());
    assert_eq!(stats.bytes, (stats.steps - 16) * layout.step_bytes());
    assert_eq!(on_disk.sample(50).unwrap(), in_memory.sample(50).unwrap());
    // A checkpoint keeps its files, whatever happens to the steps.
    let manifest = on_disk.save().unwrap();
    let named: Vec<String> = manifest.files().map(String::from).collect();
    drop(on_disk);
    assert!(named.iter().all(|file| files(dir.path()).contains(file)));
    let config = ReplayConfig { disk_gib, ..config() };
    let (restored, _) = Replay::load(&config, LENGTH, CONTEXT, dir.path(), &manifest, Damaged::Refuse).unwrap();
    assert_eq!(restored.stats(), stats);
}

#[test]
fn a_sample_is_whole_although_its_block_is_freed_before_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let replay = replay(&ReplayConfig { size: 4, disk_gib: 1.0, ..config() }, dir.path());
    replay.insert(&chunk(stream(0), 0, 8)).unwrap();
    replay.unload().unwrap();
    let drawn = replay.store.lock().sample(8).unwrap();
    replay.insert(&chunk(stream(0), 8, 12)).unwrap();
    replay.unload().unwrap();
    let steps = drawn.finish().unwrap().batch["lucid/version"].values::<u64>();
    assert!(steps.chunks(LENGTH).all(|row| row[0] < 4 && row.windows(2).all(|w| w[1] == w[0] + 1)), "{steps:?}");
    assert!(!files(dir.path()).iter().any(|file| file.contains("-0000000000.")), "then the first block's file is gone");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn behaves_like_a_plain_list_of_steps(
        ops in prop::collection::vec(op(), 1..80), size in 1usize..40, cap_steps in 30usize..90, online: bool,
        priority in prop_oneof![Just(0.0), Just(0.5), Just(1.0)], on_disk: bool,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let step_bytes = chunk(stream(0), 0, 1).bytes();
        let gib = (cap_steps * step_bytes) as f64 / (1u64 << 30) as f64;
        let fracs = FracsConfig { uniform: 1.0 - priority, priority, recency: 0.0 };
        let disk_gib = if on_disk { 1.0 } else { 0.0 };
        let config = ReplayConfig { size, gib, disk_gib, online, fracs, ..config() };
        let mut replay = replay(&config, dir.path());
        let (mut model, mut next, mut late) = (Model::new(), [0u64; 3], Vec::new());
        for (at, op) in ops.into_iter().enumerate() {
            match op {
                Op::Insert { env, len } => {
                    let from = next[env as usize];
                    prop_assert_eq!(replay.insert(&chunk(stream(env), from, len)).unwrap().steps, len);
                    replay.unload().unwrap();
                    next[env as usize] += len as u64;
                    for s in from..next[env as usize] {
                        model.insert((env, s), ([s as f32 * 10.0, s as f32 * 100.0], s));
                    }
                }
                Op::Resend { env } if next[env as usize] > 0 => {
                    let again = chunk(stream(env), next[env as usize] - 1, 1);
                    prop_assert_eq!(replay.insert(&again).unwrap(), Inserted::default());
                }
                Op::Train { rows } => match replay.sample(rows) {
                    Ok(sampled) => {
                        check_sample(&model, &sampled);
                        // The update before comes back one sample late, when some of its steps may be gone.
                        write_back(&mut model, &replay, &std::mem::replace(&mut late, sampled.ids), at as u64);
                    }
                    Err(error) => prop_assert!(replay.stats().items == 0, "{}", error),
                },
                Op::Reload => {
                    let manifest = replay.save().unwrap();
                    let text = serde_json::to_string(&manifest).unwrap();
                    let manifest: Manifest = serde_json::from_str(&text).unwrap();
                    let load = || Replay::load(&config, LENGTH, CONTEXT, dir.path(), &manifest, Damaged::Refuse).unwrap().0;
                    let (once, twice) = (load(), load());
                    prop_assert_eq!(once.stats(), replay.stats());
                    if replay.stats().items > 0 {
                        prop_assert_eq!(once.sample(9).unwrap(), replay.sample(9).unwrap());
                        prop_assert_eq!(once.sample(9).unwrap(), replay.sample(9).unwrap());
                    }
                    replay = twice;
                }
                Op::Resend { .. } => {}
            }
            let stats = replay.stats();
            prop_assert!(stats.items <= size && stats.bytes <= cap_steps * step_bytes);
            prop_assert_eq!(stats.steps as u64, stats.inserted - stats.evicted);
        }
    }
}
