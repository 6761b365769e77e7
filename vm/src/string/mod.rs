//! String objects: immutable bytes, NUL-terminated behind the end (C functions read them).
//!
//! Up to [`crate::limits::STR_INTERN_MAX`] bytes a string is interned: equal contents, one address.
//! Longer ones are not; they hash lazily. As a table key a long string is replaced by its interned
//! twin, so that table nodes always compare by address.

pub mod intern;
mod join;

use crate::cell::gc_ref::Gc;
use crate::cell::header::{Header, strflags};
use crate::heap::Heap;
use crate::value::{Object, tag};

/// A string object; the bytes follow directly, then one NUL.
#[repr(C)]
pub struct Str {
    /// Header; `aux` is the number of an interned string, which tables hash it by.
    pub hdr: Header,
    /// Length in bytes.
    pub len: u32,
    /// Hash of the contents when `strflags::HASHED` is set.
    pub hash: u32,
}

// SAFETY: `Str` is `repr(C)` and starts with its header of kind `Str`.
unsafe impl Object for Str {
    const TAG: tag::Tag = tag::STR;
}

impl Str {
    /// Bytes of header before the contents.
    pub const DATA_OFFSET: usize = std::mem::size_of::<Str>();

    /// The contents.
    #[inline(always)]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the allocator placed `len` initialised bytes behind the struct and they never change.
        unsafe {
            std::slice::from_raw_parts(
                (self as *const Str as *const u8).add(Str::DATA_OFFSET),
                self.len as usize,
            )
        }
    }

    /// Is it a long string that is not interned?
    #[inline(always)]
    pub fn is_long(&self) -> bool {
        self.hdr.flags & strflags::INTERNED == 0
    }
}

impl Gc<Str> {
    /// The contents.
    #[inline(always)]
    pub fn bytes(self, heap: &Heap) -> &[u8] {
        self.get(heap).bytes()
    }
}

const _: () = assert!(Str::DATA_OFFSET == 16);
