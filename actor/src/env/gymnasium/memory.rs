//! Memory that an actor shares with one child process.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, Mode, SealFlags, fchmod, fcntl_add_seals, ftruncate, memfd_create};

/// Nameless memory of a fixed size, gone with the last process that has it.
pub struct Memory {
    map: MmapRaw,
}

/// A descriptor of memory without a size yet, for the child to inherit; no other user's process opens it anew.
pub fn create() -> io::Result<OwnedFd> {
    let descriptor = memfd_create("lucid-env", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    fchmod(&descriptor, Mode::RUSR | Mode::WUSR)?;
    Ok(descriptor)
}

impl Memory {
    /// Give the memory its size, for good, and map it.
    pub fn map(descriptor: OwnedFd, size: usize) -> io::Result<Self> {
        ftruncate(&descriptor, size as u64)?;
        // Nobody can make it smaller any more: a read beyond its end would kill this process.
        fcntl_add_seals(&descriptor, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok(Self { map: MmapOptions::new().len(size).map_raw(&File::from(descriptor))? })
    }

    /// A copy of the bytes from `at` on; panics if they are not all inside.
    pub fn read(&self, at: usize, out: &mut [u8]) {
        self.check(at, out.len());
        // SAFETY: `check` has seen that the bytes lie in the mapping, which is as long as the sealed memory and lives as long as
        // `self`; `out` is other memory. By the protocol the child does not write between its reply and the next request. Should it
        // break that, what is copied is garbage: plain bytes, of which every value is valid, and which are checked afterwards.
        unsafe { std::ptr::copy_nonoverlapping(self.map.as_ptr().add(at), out.as_mut_ptr(), out.len()) }
    }

    /// Put bytes at `at`; panics if there is no room for them.
    pub fn write(&self, at: usize, bytes: &[u8]) {
        self.check(at, bytes.len());
        // SAFETY: as in `read`, with the roles changed: the child does not read between its reply and the next request. Nothing in
        // this process borrows the mapping.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.map.as_mut_ptr().add(at), bytes.len()) }
    }

    fn check(&self, at: usize, length: usize) {
        assert!(at.checked_add(length).is_some_and(|end| end <= self.map.len()), "{length} bytes at {at} lie outside");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_mappings_share_their_bytes_and_nobody_shrinks_them() {
        let descriptor = create().unwrap();
        assert_eq!(rustix::fs::fstat(&descriptor).unwrap().st_mode & 0o777, 0o600);
        let other = descriptor.try_clone().unwrap();
        let memory = Memory::map(descriptor, 100).unwrap();
        assert!(ftruncate(&other, 10).is_err());
        let child = MmapOptions::new().len(100).map_raw(&other).unwrap();
        let child = Memory { map: child };
        memory.write(96, &[1, 2, 3, 4]);
        let mut seen = [0; 4];
        child.read(96, &mut seen);
        assert_eq!(seen, [1, 2, 3, 4]);
    }

    #[test]
    #[should_panic(expected = "lie outside")]
    fn what_lies_outside_is_not_read() {
        Memory::map(create().unwrap(), 100).unwrap().read(97, &mut [0; 4]);
    }
}
