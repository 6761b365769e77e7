//! C data objects: a header with the ctype id, and bytes. What the bytes mean is the ffi crate's business.

use crate::cell::header::Header;
use crate::value::{Object, tag};

/// A C data object; the payload follows directly at 8 bytes, aligned to 16 when that many bytes ask for it.
#[repr(C)]
pub struct Cdata {
    /// Header: `aux` is the ctype id.
    pub hdr: Header,
    /// Payload bytes.
    pub len: u32,
    /// Offset of the payload from the object's address (16 or more, for over-aligned types).
    pub offset: u32,
}

// SAFETY: `Cdata` is `repr(C)` and starts with its header of kind `Cdata`.
unsafe impl Object for Cdata {
    const TAG: tag::Tag = tag::CDATA;
}

impl Cdata {
    /// Address of the payload.
    pub fn data_ptr(&self) -> *mut u8 {
        (self as *const Cdata as *mut u8).wrapping_add(self.offset as usize)
    }

    /// The ctype id.
    pub fn ctypeid(&self) -> u32 {
        self.hdr.aux
    }
}

/// Fixed ids of basic C types, shared with the ffi crate (literals need them without it).
pub mod ctid {
    #![allow(missing_docs)]
    pub const NONE: u32 = 0;
    pub const VOID: u32 = 1;
    pub const CVOID: u32 = 2;
    pub const BOOL: u32 = 3;
    pub const CCHAR: u32 = 4;
    pub const INT8: u32 = 5;
    pub const UINT8: u32 = 6;
    pub const INT16: u32 = 7;
    pub const UINT16: u32 = 8;
    pub const INT32: u32 = 9;
    pub const UINT32: u32 = 10;
    pub const INT64: u32 = 11;
    pub const UINT64: u32 = 12;
    pub const FLOAT: u32 = 13;
    pub const DOUBLE: u32 = 14;
    pub const COMPLEX_FLOAT: u32 = 15;
    pub const COMPLEX_DOUBLE: u32 = 16;
    pub const P_VOID: u32 = 17;
    pub const P_CVOID: u32 = 18;
    pub const P_CCHAR: u32 = 19;
    pub const P_UINT8: u32 = 20;
    pub const A_CCHAR: u32 = 21;
    pub const CTYPEID: u32 = 22;
}
