//! Tables: an array part for small integer keys (index 0 included) and a chained hash part.

use crate::cell::gc_ref::Gc;
use crate::cell::header::Header;
use crate::value::{Object, Value, tag};

/// A table. Small parts live inline behind the struct in the same cell.
#[repr(C)]
pub struct Table {
    /// Header: `flags` is the negative metamethod cache, `aux` the free index of the hash part.
    pub hdr: Header,
    /// Array part: `asize` values, key 0 first. Dangling but aligned when `asize` is 0.
    pub array: *mut Value,
    /// Hash part: `hmask + 1` nodes. An empty hash part is one shared nil node per heap.
    pub node: *mut Node,
    /// Metatable.
    pub meta: Option<Gc<Table>>,
    /// Size of the array part (keys `0..asize`).
    pub asize: u32,
    /// Size of the hash part minus one.
    pub hmask: u32,
}

/// One node of the hash part.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Node {
    /// Value; `nil` in a free or deleted node.
    pub val: Value,
    /// Key; `nil` in a node never used. A dead key keeps its bits so that `next` can find it.
    pub key: Value,
    /// Next node of the collision chain, or null.
    pub next: *mut Node,
}

// SAFETY: `Table` is `repr(C)` and starts with its header of kind `Tab`.
unsafe impl Object for Table {
    const TAG: tag::Tag = tag::TAB;
}

const _: () = {
    assert!(std::mem::size_of::<Table>() == 40);
    assert!(std::mem::size_of::<Node>() == 24);
};
