//! Memory that processes of one host share to read, and that nobody writes once it is made.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Write};
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use memmap2::{Mmap, MmapOptions};
use rustix::fs::fstat;

/// Bytes that have no name among files and last until the last process that has them is done, whoever made them.
///
/// On Linux they are sealed: no process can write, shrink or grow them any more, not even by `/proc`, and unsealed memory is not taken
/// from another process. Elsewhere nothing but manners keeps other processes from writing.
#[derive(Clone)]
pub struct SharedMemory {
    held: Arc<Held>,
}

struct Held {
    descriptor: OwnedFd,
    /// None where there are no bytes, which cannot be mapped.
    map: Option<Mmap>,
}

impl SharedMemory {
    /// New memory with a copy of these bytes.
    pub fn copy(bytes: &[u8]) -> io::Result<Self> {
        let mut draft = MemoryDraft::new()?;
        draft.append(bytes)?;
        draft.finish()
    }

    /// What another process sent; an error if it could still be changed.
    pub fn received(descriptor: OwnedFd) -> io::Result<Self> {
        system::check(&descriptor)?;
        Self::map(descriptor)
    }

    fn map(descriptor: OwnedFd) -> io::Result<Self> {
        let file = File::from(descriptor);
        let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let map = match length {
            0 => None,
            // SAFETY: what is mapped has been written before and keeps its size. On Linux seals guarantee both, and `check` or
            // `sealed` has put or seen them; elsewhere all processes of a run, which are this program, only read it.
            length => Some(unsafe { MmapOptions::new().len(length).map(&file)? }),
        };
        Ok(Self { held: Arc::new(Held { descriptor: file.into(), map }) })
    }

    /// Whether both are the same memory, however often it was received: not only the same bytes.
    pub fn is_same(&self, other: &Self) -> bool {
        let identity = |memory: &Self| fstat(memory).map(|stat| (stat.st_dev, stat.st_ino));
        matches!((identity(self), identity(other)), (Ok(one), Ok(another)) if one == another)
    }
}

/// Memory that is still being written, piece by piece, and that nobody else has.
pub struct MemoryDraft {
    file: File,
    length: u64,
}

impl MemoryDraft {
    /// Without bytes.
    pub fn new() -> io::Result<Self> {
        Ok(Self { file: system::create()?, length: 0 })
    }

    /// Bytes so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// More bytes at the end.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// No more bytes, ever.
    pub fn finish(self) -> io::Result<SharedMemory> {
        SharedMemory::map(system::seal(self.file)?)
    }
}

impl AsFd for SharedMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.held.descriptor.as_fd()
    }
}

impl Deref for SharedMemory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.held.map.as_deref().unwrap_or_default()
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::fs::{File, Permissions};
    use std::io::{self, Error};
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::os::unix::fs::PermissionsExt;

    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};

    const SEALS: SealFlags = SealFlags::WRITE.union(SealFlags::SHRINK).union(SealFlags::GROW);

    /// Memory to be written.
    pub fn create() -> io::Result<File> {
        let file = File::from(memfd_create("lucid", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
        file.set_permissions(Permissions::from_mode(0o400))?;
        Ok(file)
    }

    /// A descriptor to read what was written by. It is opened anew because systems before 6.7 map sealed memory, shared, only for those
    /// who cannot write by their descriptor anyway.
    pub fn seal(file: File) -> io::Result<OwnedFd> {
        fcntl_add_seals(&file, SEALS | SealFlags::SEAL)?;
        Ok(File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?.into())
    }

    /// Whether nobody can change what is there: reading it is safe only then.
    pub fn check(descriptor: &OwnedFd) -> io::Result<()> {
        match fcntl_get_seals(descriptor) {
            Ok(seals) if seals.contains(SEALS) => Ok(()),
            _ => Err(Error::other("it is not sealed: its sender could still change it")),
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::fs::File;
    use std::io;
    use std::os::fd::OwnedFd;

    /// A file that has no name any more: there is no sealed memory here.
    pub fn create() -> io::Result<File> {
        tempfile::tempfile()
    }

    pub fn seal(file: File) -> io::Result<OwnedFd> {
        Ok(file.into())
    }

    pub fn check(_: &OwnedFd) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_nothing_is_empty() {
        assert!(SharedMemory::copy(&[]).unwrap().is_empty());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn nobody_alters_it_by_any_descriptor_or_mapping_and_only_its_owner_may_read_it() {
        use std::fs::{OpenOptions, Permissions};
        use std::os::fd::AsRawFd;
        use std::os::unix::fs::{FileExt, PermissionsExt};

        let memory = SharedMemory::copy(&[7; 5000]).unwrap();
        let path = format!("/proc/self/fd/{}", memory.as_fd().as_raw_fd());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o400);
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let denied = |result: io::Result<()>| assert_eq!(result.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        denied(file.write_all_at(&[1], 9));
        denied(file.set_len(10));
        denied(file.set_len(9000));
        denied(MmapOptions::new().len(5000).map_raw(&file).map(drop));
        // A debugger's way writes even where a process cannot, but not where it would reach the memory of others.
        let own = OpenOptions::new().write(true).open("/proc/self/mem").unwrap();
        own.write_all_at(&[1], memory.as_ptr() as u64).unwrap_err();
        assert_eq!(*memory, [7; 5000]);
    }

    #[test]
    fn it_is_the_same_however_often_it_was_received_and_another_with_the_same_bytes_is_not() {
        let memory = SharedMemory::copy(&[7; 50]).unwrap();
        let again = SharedMemory::received(memory.as_fd().try_clone_to_owned().unwrap()).unwrap();
        assert!(memory.is_same(&again) && !memory.is_same(&SharedMemory::copy(&[7; 50]).unwrap()));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_its_sender_could_still_change_is_not_taken() {
        use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

        let new = || memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        let sizes = new();
        ftruncate(&sizes, 100).unwrap();
        fcntl_add_seals(&sizes, SealFlags::SHRINK | SealFlags::GROW).unwrap();
        let (pipe, _other) = rustix::pipe::pipe().unwrap();
        for descriptor in [new(), sizes, tempfile::tempfile().unwrap().into(), pipe] {
            assert!(SharedMemory::received(descriptor).err().unwrap().to_string().contains("not sealed"));
        }
    }
}
