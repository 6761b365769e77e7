//! Full userdata: a payload with a destructor, a metatable and an environment.

use crate::cell::gc_ref::Gc;
use crate::cell::header::Header;
use crate::table::Table;
use crate::value::{Object, tag};

/// A full userdata; the payload (16-byte aligned) follows the struct.
#[repr(C)]
pub struct Userdata {
    /// Header.
    pub hdr: Header,
    /// Metatable.
    pub meta: Option<Gc<Table>>,
    /// Environment.
    pub env: Option<Gc<Table>>,
    /// Payload bytes.
    pub len: u32,
    /// Reserved.
    pub reserved: u32,
    /// Identity of the Rust type of the payload (address of a per-type static), or 0 for plain bytes.
    pub type_id: u64,
    /// Destructor of the payload, run when the object is freed (after `__gc`); must not touch the VM.
    pub drop: Option<unsafe fn(*mut u8)>,
}

// SAFETY: `Userdata` is `repr(C)` and starts with its header of kind `Udata`.
unsafe impl Object for Userdata {
    const TAG: tag::Tag = tag::UDATA;
}

impl Userdata {
    /// Offset of the payload.
    pub const DATA_OFFSET: usize = std::mem::size_of::<Userdata>();

    /// Address of the payload.
    pub fn data_ptr(&self) -> *mut u8 {
        (self as *const Userdata as *mut u8).wrapping_add(Userdata::DATA_OFFSET)
    }
}

const _: () = assert!(Userdata::DATA_OFFSET == 48);
