//! From the tensors of a file to a ViT: names, shapes and sizes as a header has them.
#![no_main]

use std::cell::LazyCell;

use libfuzzer_sys::fuzz_target;
use lucid_fuzz::{Folder, soon, with_data};

thread_local! {
    static FOLDER: LazyCell<Folder> = LazyCell::new(Folder::default);
}

fuzz_target!(|header: &[u8]| {
    soon(|| {
        FOLDER.with(|folder| {
            folder.put("model.safetensors", &with_data(header));
            folder.load_trunk();
            folder.inspect_trunk();
        });
    });
});
