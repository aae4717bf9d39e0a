//! What the fuzz targets share.

use std::cell::LazyCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use learner::plot::{By, Request};
use learner::replay::Replay;
use learner::vit::{Hints, inspect, load};
use learner::weights::WeightsFile;
use rustix::time::{ClockId, clock_gettime};
use shared::array::Array;
use shared::config::{Config, ReplayConfig};
use shared::experience::{Chunk, DETER, STOCH, StreamId, UPDATE, VERSION};
use tempfile::TempDir;

/// Most bytes of data that a header gets.
const DATA: u64 = 1 << 18;

/// Processor time that one input may take; that of a clock would depend on what else the machine does.
const LIMIT: Duration = Duration::from_secs(1);

/// Do something that must not take long.
pub fn soon(work: impl FnOnce()) {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let start = now();
    work();
    let taken = now() - start;
    assert!(taken < LIMIT, "an input took {taken:?}");
}

/// Open a weights file and read every tensor of it. Either outcome is right; a panic, much memory or much time is not.
pub fn exhaust(bytes: &[u8]) {
    if let Ok(file) = WeightsFile::from_bytes(bytes.to_vec()) {
        read_all(&file);
    }
}

/// Read every tensor of a file.
pub fn read_all(file: &WeightsFile) {
    for name in file.names() {
        let values = file.values(name);
        assert!(file.shape(name).is_some() && file.dtype(name).is_some());
        if let Ok(values) = values {
            assert_eq!(Some(values.len()), file.shape(name).map(|shape| shape.iter().product::<usize>()));
        }
    }
}

/// A safetensors file with this header, and as many bytes of data as its tensors ask for if they are not many.
pub fn with_data(header: &[u8]) -> Vec<u8> {
    let tensors = serde_json::from_slice::<serde_json::Map<_, _>>(header).unwrap_or_default();
    let end = tensors.values().filter_map(|tensor| tensor["data_offsets"][1].as_u64()).max().unwrap_or(0);
    let data = vec![0x3c; end.min(DATA) as usize];
    [&(header.len() as u64).to_le_bytes()[..], header, &data].concat()
}

/// A folder in memory that goes away with the process.
pub struct Folder(TempDir);

impl Default for Folder {
    fn default() -> Self {
        let shared = PathBuf::from("/dev/shm");
        let folder = if shared.is_dir() { TempDir::new_in(shared) } else { TempDir::new() };
        Self(folder.expect("a temporary folder"))
    }
}

impl Folder {
    /// Write a file.
    pub fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).expect("a file in memory");
        path
    }

    /// Load `model.safetensors` as a trunk; what is loaded has the sizes that it says.
    pub fn load_trunk(&self) {
        let path = self.0.path().join("model.safetensors");
        if let Ok(loaded) = load(&path, &Hints::default()) {
            for (name, shape, _) in loaded.spec.params() {
                let (found, values) = &loaded.tensors[&name];
                assert!(*found == shape && values.len() == shape.iter().product::<usize>());
            }
        }
    }

    /// Inspect it.
    pub fn inspect_trunk(&self) {
        let _ = inspect(&self.0.path().join("model.safetensors"), &Hints::default());
    }
}

impl Folder {
    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Bytes that are whole, with some of them changed: each three bytes of the input say where, and to what.
pub fn patched(whole: &[u8], input: &[u8]) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for patch in input.as_chunks::<3>().0 {
        let at = usize::from(u16::from_le_bytes([patch[0], patch[1]])) % bytes.len().max(1);
        if let Some(byte) = bytes.get_mut(at) {
            *byte = patch[2];
        }
    }
    bytes
}

thread_local! {
    static REPLAY: LazyCell<ReplayConfig> = LazyCell::new(|| {
        let sets = ["replay.size=40", "replay.chunksize=4", "replay.gib=1.0", "replay.disk_gib=0.0"];
        Config::load(&["dummy"], &sets).expect("options that there are").replay
    });
}

/// A small replay. The presets are read once: that takes longer than most inputs.
pub fn replay_config() -> ReplayConfig {
    REPLAY.with(|config| ReplayConfig::clone(config))
}

/// Steps of the first stream.
pub fn steps(first: u64, count: usize) -> Chunk {
    let flags = Array::u8(&[count], &vec![0; count]);
    let counts: Vec<u64> = (first..first + count as u64).collect();
    let numbers = Array::f32(&[count, 2], &vec![0.5; 2 * count]);
    let columns = [
        ("is_first", flags.clone()),
        ("is_last", flags),
        ("vector", numbers.clone()),
        (DETER, numbers),
        (STOCH, Array::u16(&[count, 1], &vec![1; count])),
        (VERSION, Array::u64(&[count], &counts)),
        (UPDATE, Array::u64(&[count], &counts)),
    ];
    let stream = StreamId { actor: 0, generation: 0, env: 0 };
    Chunk { stream, first_step: first, columns: columns.map(|(key, array)| (key.to_string(), array)).into() }
}

/// A replay with some steps, which keeps its files in this folder.
pub fn replay_in(folder: &Path) -> Replay {
    let replay = Replay::new(&replay_config(), LENGTH, 1, 7, folder).expect("settings that work");
    replay.insert(&steps(0, 14)).expect("steps that are whole");
    replay
}

/// Steps of an item.
pub const LENGTH: usize = 5;

/// A plot of returns in this run.
pub fn plot_request(run: &Path) -> Request {
    Request {
        runs: vec![("run".into(), run.to_path_buf())],
        metric: "episode/return".into(),
        by: By::Updates,
        window: None,
        marks: vec![],
        each: false,
    }
}
