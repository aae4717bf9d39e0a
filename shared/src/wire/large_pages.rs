//! Shared memory in pages of 2 MiB, for what is read over and over.
#![allow(unsafe_code)]

use std::ptr::NonNull;

use super::SharedMemory;

/// Size of a large page, bytes.
const PAGE: usize = 2 << 20;

/// Shared memory, mapped a second time where large pages fit, and moved into such pages.
///
/// A pass over many megabytes otherwise waits for the addresses of its pages of 4 KiB: most of its time where both a virtual machine and
/// its host have tables of them. Every process that maps the memory so finds it in large pages; it still exists once.
pub struct LargePages {
    /// Keeps the memory's descriptor and length; not read through.
    memory: SharedMemory,
    at: NonNull<u8>,
}

// SAFETY: the mapping is shared memory that is read only, since nobody writes what a `SharedMemory` holds; it belongs to this value,
// which unmaps it once.
unsafe impl Send for LargePages {}
// SAFETY: as above; references to it only read.
unsafe impl Sync for LargePages {}

impl LargePages {
    /// The memory itself if the system has no such pages, or has none left.
    pub fn new(memory: SharedMemory) -> Result<Self, SharedMemory> {
        if memory.len() < PAGE {
            return Err(memory);
        }
        match map(&memory) {
            Some(at) => Ok(Self { memory, at }),
            None => Err(memory),
        }
    }
}

impl AsRef<[u8]> for LargePages {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `map` has mapped as many bytes of the memory there as it is long, for as long as this value lives. Nobody writes them.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.memory.len()) }
    }
}

impl Drop for LargePages {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and its borrowers are gone.
        unsafe { unmap(self.at.as_ptr(), self.memory.len()) };
    }
}

/// The memory once more at a multiple of a large page, in such pages; none if the system refuses.
#[cfg(target_os = "linux")]
fn map(memory: &SharedMemory) -> Option<NonNull<u8>> {
    use std::os::fd::{AsFd, AsRawFd};
    use std::ptr::null_mut;

    use libc::{MADV_COLLAPSE, MAP_ANONYMOUS, MAP_FAILED, MAP_FIXED, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED};
    use libc::{PROT_NONE, PROT_READ, madvise, mmap};

    /// The smallest size of a page.
    const SMALL_PAGE: usize = 4 << 10;

    let room = memory.len().next_multiple_of(PAGE) + PAGE;
    // SAFETY: the system chooses addresses that nothing uses, and nothing is read there before the memory is.
    let room_at = unsafe { mmap(null_mut(), room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) };
    if room_at == MAP_FAILED {
        return None;
    }
    let start = room_at.cast::<u8>();
    let at = start.wrapping_add(start.align_offset(PAGE));
    let end = at.wrapping_add(memory.len().next_multiple_of(SMALL_PAGE));
    let descriptor = memory.as_fd().as_raw_fd();
    // SAFETY: the memory is mapped over a part of what was reserved here; the rest of that is given back. The advice changes where the
    // memory lies, not what it holds.
    unsafe {
        if mmap(at.cast(), memory.len(), PROT_READ, MAP_SHARED | MAP_FIXED, descriptor, 0) == MAP_FAILED {
            unmap(start, room);
            return None;
        }
        unmap(start, at as usize - start as usize);
        unmap(end, start as usize + room - end as usize);
        // Ordinary pages serve where the system refuses.
        madvise(at.cast(), memory.len(), MADV_COLLAPSE);
    }
    NonNull::new(at)
}

#[cfg(not(target_os = "linux"))]
fn map(_: &SharedMemory) -> Option<NonNull<u8>> {
    None
}

/// # Safety
/// The addresses are the caller's own mapping, in whole pages, and nobody borrows what is there.
unsafe fn unmap(from: *mut u8, len: usize) {
    if len > 0 {
        // SAFETY: the caller's word.
        unsafe { libc::munmap(from.cast(), len) };
    }
}
