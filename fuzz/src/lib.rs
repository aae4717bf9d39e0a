//! What the fuzz targets share.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use learner::vit::{Hints, inspect, load};
use learner::weights::WeightsFile;
use rustix::time::{ClockId, clock_gettime};
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
