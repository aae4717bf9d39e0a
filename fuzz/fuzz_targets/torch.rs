//! PyTorch's zip format: any bytes as an archive, and as the pickle of a whole one.
#![no_main]

use std::io::{Cursor, Write};

use libfuzzer_sys::fuzz_target;
use lucid_fuzz::{exhaust, soon};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// An archive with this pickle and two storages of 64 bytes.
fn archive(pickle: &[u8]) -> Option<Vec<u8>> {
    let mut zip = ZipWriter::new(Cursor::new(vec![]));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, bytes) in [("data.pkl", pickle), ("data/0", &[0x3c; 64]), ("data/1", &[0x3c; 64])] {
        zip.start_file(format!("archive/{name}"), stored).ok()?;
        zip.write_all(bytes).ok()?;
    }
    Some(zip.finish().ok()?.into_inner())
}

fuzz_target!(|bytes: &[u8]| {
    soon(|| {
        exhaust(bytes);
        exhaust(&archive(bytes).expect("an archive"));
    });
});
