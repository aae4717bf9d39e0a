//! The configurations beside a ViT's weights: `config.json`, and behind the first zero byte `preprocessor_config.json`.
#![no_main]

use std::cell::LazyCell;

use libfuzzer_sys::fuzz_target;
use lucid_fuzz::{Folder, soon};

const WEIGHTS: &[u8] = include_bytes!("../../tests/parity/vit/hf_dinov2.safetensors");

thread_local! {
    static FOLDER: LazyCell<Folder> = LazyCell::new(|| {
        let folder = Folder::default();
        folder.put("model.safetensors", WEIGHTS);
        folder
    });
}

fuzz_target!(|bytes: &[u8]| {
    soon(|| {
        let mut files = bytes.splitn(2, |byte| *byte == 0);
        FOLDER.with(|folder| {
            folder.put("config.json", files.next().unwrap_or_default());
            folder.put("preprocessor_config.json", files.next().unwrap_or(b"{}"));
            folder.load_trunk();
        });
    });
});
