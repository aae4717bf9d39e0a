//! Files that grow.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

/// Write all bytes at a file's end, where its cursor is, or none: what follows a part that a full disk took could not be read.
pub fn append_whole(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    let end = file.stream_position()?;
    file.write_all(bytes).inspect_err(|_| {
        // Shortening needs no room. Should it fail all the same, the part stays.
        let _ = file.set_len(end).and_then(|()| file.seek(SeekFrom::Start(end)));
    })
}
