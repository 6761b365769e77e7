//! C data objects: a header with the ctype id, and bytes. What the bytes mean is the ffi crate's business.

use crate::cell::gc_ref::Gc;
use crate::cell::header::{Header, Kind, gcbits};
use crate::heap::Heap;
use crate::heap::arena::Group;
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
    #[inline(always)]
    pub fn data_ptr(&self) -> *mut u8 {
        (self as *const Cdata as *mut u8).wrapping_add(self.offset as usize)
    }

    /// The ctype id.
    #[inline(always)]
    pub fn ctypeid(&self) -> u32 {
        self.hdr.aux
    }
}

impl Heap {
    /// A C data object of `size` zero bytes at an alignment (a power of two).
    pub fn new_cdata(&mut self, ctypeid: u32, size: usize, align: usize) -> Gc<Cdata> {
        const DATA: usize = std::mem::size_of::<Cdata>();
        // Cells are aligned to 16 bytes; what asks for more gets room to move.
        let slack = if align > 16 { align } else { 0 };
        let (p, large) = self.alloc(Group::Obj, DATA + size + slack);
        let offset = if align > 16 { (p as usize + DATA).next_multiple_of(align) - p as usize } else { DATA };
        let hdr = Header { kind: Kind::Cdata as u8, gc: large, flags: 0, extra: 0, aux: ctypeid };
        // SAFETY: the allocation has room for the struct, the slack and the payload.
        unsafe {
            (p as *mut Cdata).write(Cdata { hdr, len: size as u32, offset: offset as u32 });
            p.add(offset).write_bytes(0, size);
        }
        Gc::from_addr(p as u64).expect("the allocator never returns null")
    }

    /// A 64-bit integer as C data.
    pub fn new_int64(&mut self, ctypeid: u32, bits: u64) -> Gc<Cdata> {
        let cd = self.new_cdata(ctypeid, 8, 8);
        // SAFETY: the payload has eight bytes, aligned to eight.
        unsafe { (cd.get(self).data_ptr() as *mut u64).write(bits) };
        cd
    }

    /// The object has a finalizer from now on (or no longer): when it dies, the collector asks
    /// `CdataHooks::finalizer` for the function and queues it.
    pub fn set_cdata_finalizer(&mut self, cd: Gc<Cdata>, on: bool) {
        let gc = &mut cd.get_mut(self).hdr.gc;
        if !on {
            // Its list entry goes when the collector meets it.
            *gc |= gcbits::FINALIZED;
            return;
        }
        *gc &= !gcbits::FINALIZED;
        if *gc & gcbits::HAS_FINALIZER == 0 {
            *gc |= gcbits::HAS_FINALIZER;
            self.lists.cdata.push(cd.cast());
        }
    }
}

const _: () = assert!(std::mem::size_of::<Cdata>() == 16);

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
