//! The eight bytes every object starts with.
//!
//! ```text
//!   0 kind   1 gc bits   2 flags (by kind)   3 extra (by kind)   4..8 aux (by kind)
//! ```

/// Kind of an object; `!tag` of the value that points to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Kind {
    Str = 4,
    Upval = 5,
    Thread = 6,
    Proto = 7,
    Func = 8,
    Trace = 9,
    Cdata = 10,
    Tab = 11,
    Udata = 12,
}

/// Object header.
#[derive(Debug)]
#[repr(C, align(8))]
pub struct Header {
    /// [`Kind`] as a number.
    pub kind: u8,
    /// Bits of the collector: [`gcbits`].
    pub gc: u8,
    /// By kind. Table: negative metamethod cache (bit = [`crate::bytecode::ops::Mm`] known absent).
    /// String: [`strflags`]. Function: [`funcflags`]. Upvalue: 1 = closed. Thread: status. Udata: udata type.
    pub flags: u8,
    /// By kind. Table: log2 of the hash size. Function: builtin id for the recorder.
    pub extra: u8,
    /// By kind. String: its number (see `string::intern`). Function: number of upvalues. Table: free index of the hash part. Cdata: ctype id.
    pub aux: u32,
}

/// Collector bits of [`Header::gc`].
pub mod gcbits {
    /// Storing a reference into this object must go through the barrier (it has been traversed).
    pub const BLACK: u8 = 1;
    /// Never collected.
    pub const FIXED: u8 = 2;
    /// Has a finalizer that has run or is queued.
    pub const FINALIZED: u8 = 4;
    /// Large object: its mark lies in front of it, not in an arena.
    pub const LARGE: u8 = 8;
    /// Template table of a prototype: keys without a value are kept (code stores values later).
    pub const TEMPLATE: u8 = 16;
    /// Table with weak keys.
    pub const WEAK_KEY: u8 = 32;
    /// Table with weak values.
    pub const WEAK_VAL: u8 = 64;
    /// Cdata or userdata with a finalizer registered.
    pub const HAS_FINALIZER: u8 = 128;
}

/// Flags of strings.
pub mod strflags {
    /// Longer than the interning limit and not interned.
    pub const LONG: u8 = 1;
    /// The hash of the contents is known.
    pub const HASHED: u8 = 2;
    /// Interned: equal contents have one address.
    pub const INTERNED: u8 = 4;
}

/// Flags of functions.
pub mod funcflags {
    /// Native function ([`crate::function::closure::NativeFunc`]).
    pub const NATIVE: u8 = 1;
}

const _: () = assert!(std::mem::size_of::<Header>() == 8);
