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
    #[inline(always)]
    pub fn new_int64(&mut self, ctypeid: u32, bits: u64) -> Gc<Cdata> {
        const DATA: usize = std::mem::size_of::<Cdata>();
        const CLASS: usize = crate::heap::arena::class_of(DATA + 8);
        let p = self.alloc_cell(Group::Obj, CLASS);
        let hdr = Header { kind: Kind::Cdata as u8, gc: 0, flags: 0, extra: 0, aux: ctypeid };
        // SAFETY: the cell has room for the struct and eight bytes, and is aligned to 16.
        unsafe {
            (p as *mut Cdata).write(Cdata { hdr, len: 8, offset: DATA as u32 });
            (p.add(DATA) as *mut u64).write(bits);
        }
        Gc::from_addr(p as u64).expect("the allocator never returns null")
    }

    /// A `complex` of two `double`s as C data.
    pub fn new_complex(&mut self, re: f64, im: f64) -> Gc<Cdata> {
        let cd = self.new_cdata(ctid::COMPLEX_DOUBLE, 16, 8);
        let data = cd.get(self).data_ptr() as *mut [f64; 2];
        // SAFETY: the object was just made with sixteen bytes behind `data_ptr`, aligned to 8.
        unsafe { data.write([re, im]) };
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

/// How a scalar of C memory becomes a Lua value, and back. What these do not cover is the ffi's business.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum Scalar {
    /// Not known here.
    #[default]
    None,
    /// `int8_t`
    I8,
    /// `uint8_t`
    U8,
    /// `int16_t`
    I16,
    /// `uint16_t`
    U16,
    /// `int32_t`
    I32,
    /// `uint32_t`
    U32,
    /// `float`
    F32,
    /// `double`
    F64,
    /// `bool`
    Bool,
    /// Eight bytes that become an object of [`Elem::ctypeid`]: a signed integer.
    I64,
    /// ... an unsigned integer.
    U64,
    /// ... a pointer.
    Ptr,
    /// The address becomes an object of [`Elem::ctypeid`]: a reference to an array, struct or union.
    Ref,
}

/// One C object inside another.
#[derive(Clone, Copy, Default, Debug)]
#[repr(C)]
pub struct Elem {
    /// What it is.
    pub scalar: Scalar,
    /// It must not be written.
    pub read_only: bool,
    /// Distance in bytes: of neighbouring elements, or of a member from the start.
    pub bytes: u32,
    /// Type of the object that is made of it.
    pub ctypeid: u32,
}

/// Where the elements or members of an object lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum Where {
    /// Not known.
    #[default]
    Unknown,
    /// In its payload.
    Inline,
    /// At the address in its payload: it is a pointer or a reference.
    Behind,
}

/// What the integer keys of objects of one type mean.
#[derive(Clone, Copy, Default, Debug)]
#[repr(C)]
pub struct Indexed {
    /// Where the elements lie.
    pub at: Where,
    /// One of them.
    pub elem: Elem,
}

/// What one name means in objects of one type.
#[derive(Clone, Copy, Default, Debug)]
#[repr(C)]
pub struct Named {
    /// The name's string, as a value.
    pub key: u64,
    /// Type of the object.
    pub ctypeid: u32,
    /// Where the members lie.
    pub at: Where,
    /// The member.
    pub elem: Elem,
}

/// Entries of the cache of names, a power of two.
const NAMED_ENTRIES: usize = 512;

/// What the ffi has found out about accesses, for the interpreter's fast paths. A cache: an empty one is always right.
pub struct Shapes {
    indexed: Vec<Indexed>,
    named: Box<[Named; NAMED_ENTRIES]>,
}

impl Default for Shapes {
    fn default() -> Shapes {
        Shapes { indexed: Vec::new(), named: Box::new([Named::default(); NAMED_ENTRIES]) }
    }
}

impl Shapes {
    /// What integer keys of objects of type `ctypeid` mean: a pointer that a handler may read through.
    #[inline(always)]
    pub(crate) fn indexed_at(&self, ctypeid: u32) -> *const Indexed {
        static UNKNOWN: Indexed = Indexed {
            at: Where::Unknown,
            elem: Elem { scalar: Scalar::None, read_only: false, bytes: 0, ctypeid: 0 },
        };
        if (ctypeid as usize) < self.indexed.len() {
            self.indexed.as_ptr().wrapping_add(ctypeid as usize)
        } else {
            &raw const UNKNOWN
        }
    }

    /// The only entry that may know what the name `key` means in objects of type `ctypeid`.
    #[inline(always)]
    pub(crate) fn named_at(&self, ctypeid: u32, key: u64) -> *const Named {
        self.named.as_ptr().wrapping_add(Shapes::slot(ctypeid, key))
    }

    /// What integer keys of objects of type `ctypeid` mean.
    #[inline(always)]
    pub fn indexed(&self, ctypeid: u32) -> Indexed {
        match self.indexed.get(ctypeid as usize) {
            Some(i) => *i,
            None => Indexed::default(),
        }
    }

    /// What the name `key` (a string value) means in objects of type `ctypeid`.
    #[inline(always)]
    pub fn named(&self, ctypeid: u32, key: u64) -> Named {
        let n = self.named[Shapes::slot(ctypeid, key)];
        if n.key == key && n.ctypeid == ctypeid { n } else { Named::default() }
    }

    #[inline(always)]
    fn slot(ctypeid: u32, key: u64) -> usize {
        ((key >> 4) as u32 ^ ctypeid.wrapping_mul(31)) as usize & (NAMED_ENTRIES - 1)
    }

    /// Remembers an answer for integer keys. It must hold for ever.
    pub fn remember_indexed(&mut self, ctypeid: u32, i: Indexed) {
        let at = ctypeid as usize;
        if self.indexed.len() <= at {
            self.indexed.resize(at + 1, Indexed::default());
        }
        self.indexed[at] = i;
    }

    /// Remembers an answer for a name. It must hold for ever.
    pub fn remember_named(&mut self, n: Named) {
        self.named[Shapes::slot(n.ctypeid, n.key)] = n;
    }

    /// Strings are about to die, and their addresses to be used again.
    pub fn forget_names(&mut self) {
        self.named.fill(Named::default());
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
