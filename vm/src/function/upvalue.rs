//! Upvalues: open ones point into a Lua stack, closed ones at their own slot.

use crate::cell::gc_ref::Gc;
use crate::cell::header::Header;
use crate::value::{Object, Value, tag};

/// An upvalue.
#[repr(C)]
pub struct Upval {
    /// Header; `flags` is 1 when closed, `extra` is 1 when immutable, `aux` a hash for the JIT's alias analysis.
    pub hdr: Header,
    /// Where the value is: a stack slot, or `&self.tv`.
    pub v: *mut Value,
    /// The value once closed.
    pub tv: Value,
    /// Next open upvalue of the same thread, at a lower slot.
    pub next: Option<Gc<Upval>>,
}

// SAFETY: `Upval` is `repr(C)` and starts with its header of kind `Upval`.
unsafe impl Object for Upval {
    const TAG: tag::Tag = tag::UPVAL;
}
