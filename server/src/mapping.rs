//! Memory that processes share: mapped before the fork, zeroed, gone with its owner. What the bytes mean is its users' matter.
#![allow(unsafe_code)]

use std::io;
use std::ptr::NonNull;

/// A shared anonymous mapping. Processes forked after its creation share it.
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: this type only keeps the mapping alive; who reads and writes through `base` answers for how.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` zeroed bytes, page-aligned. Errors are the system's.
    pub fn new(len: usize) -> io::Result<Mapping> {
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches no existing memory.
        let p = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if p == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(p.cast()).expect("mmap without MAP_FIXED never returns page zero");
        Ok(Mapping { base, len })
    }

    /// Its first byte. Valid as long as the mapping lives.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `base` and `len` are those of the mapping made in `new`, and its owner goes with it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}
