//! An index of weights files, beside two such files.
#![no_main]

use std::cell::LazyCell;

use learner::weights::WeightsFile;
use libfuzzer_sys::fuzz_target;
use lucid_fuzz::{Folder, read_all, soon, with_data};

thread_local! {
    static FOLDER: LazyCell<Folder> = LazyCell::new(|| {
        let folder = Folder::default();
        folder.put("one.safetensors", &with_data(br#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#));
        folder.put("two.safetensors", &with_data(br#"{"b":{"dtype":"F16","shape":[3],"data_offsets":[0,6]}}"#));
        folder
    });
}

fuzz_target!(|bytes: &[u8]| {
    soon(|| {
        let path = FOLDER.with(|folder| folder.put("model.safetensors.index.json", bytes));
        if let Ok(file) = WeightsFile::open(&path) {
            read_all(&file);
        }
    });
});
