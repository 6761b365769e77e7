//! Tables: an array part for small integer keys (index 0 included) and a chained hash part.

pub mod array;
pub mod hash;
pub mod length;
pub mod next;

use crate::cell::gc_ref::Gc;
use crate::cell::header::{Header, Kind, gcbits};
use crate::heap::Heap;
use crate::heap::accounting::OutOfMemory;
use crate::heap::arena::{CELL_MAX, Group};
use crate::string::Str;
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
    /// Next node of the collision chain: how many bytes from this one, or 0. Relative, so that a copy of
    /// the part is right as it is.
    pub next: i32,
    /// Hash of the key (of a live or deleted key; a copy, so that growing does not look at the keys).
    pub hash: u32,
}

// SAFETY: `Table` is `repr(C)` and starts with its header of kind `Tab`.
unsafe impl Object for Table {
    const TAG: tag::Tag = tag::TAB;
}

/// Why a raw set or a resize failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TableErr {
    /// The key is nil.
    NilIndex,
    /// The key is NaN.
    NanIndex,
    /// The table would outgrow its limits.
    Overflow,
    /// The table would outgrow the heap's limit.
    Memory,
}

impl From<OutOfMemory> for TableErr {
    fn from(_: OutOfMemory) -> TableErr {
        TableErr::Memory
    }
}

/// `next` was given a key the table does not have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvalidKey;

/// log2 of the hash size for so many entries; 0 for none, and never 1 node.
#[inline]
pub const fn hash_bits(entries: usize) -> u32 {
    match entries {
        0 => 0,
        1 | 2 => 1,
        n => usize::BITS - (n - 1).leading_zeros(),
    }
}

/// Bytes of the struct; inline parts start here.
pub const PARTS_OFFSET: usize = std::mem::size_of::<Table>();
const NODE: usize = std::mem::size_of::<Node>();

impl Table {
    /// Nodes of the hash part; 0 when it is empty.
    #[inline(always)]
    pub fn hash_size(&self) -> usize {
        if self.hmask == 0 { 0 } else { self.hmask as usize + 1 }
    }

    /// Does this part lie in the table's own cell?
    #[inline(always)]
    fn is_inline(&self, part: *const u8) -> bool {
        (part as usize).wrapping_sub(self as *const Table as usize) < CELL_MAX
    }

    /// The array part's own memory and its bytes, when there is an array part outside the cell.
    #[inline]
    pub fn array_part(&self) -> Option<(*mut u8, usize)> {
        let p = self.array as *mut u8;
        if self.asize == 0 || self.is_inline(p) { None } else { Some((p, self.asize as usize * 8)) }
    }

    /// The hash part's own memory and its bytes, when there is a hash part outside the cell.
    #[inline]
    pub fn node_part(&self) -> Option<(*mut u8, usize)> {
        let p = self.node as *mut u8;
        if self.hmask == 0 || self.is_inline(p) { None } else { Some((p, self.hash_size() * NODE)) }
    }

    /// The array part.
    #[inline(always)]
    pub fn array(&self) -> &[Value] {
        // SAFETY: `array` points to `asize` initialised values, or is aligned when that is 0.
        unsafe { std::slice::from_raw_parts(self.array, self.asize as usize) }
    }

    /// The array part, to be written to. Whoever stores what the collector knows runs the barrier.
    pub fn array_mut(&mut self) -> &mut [Value] {
        // SAFETY: as above; the table is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.array, self.asize as usize) }
    }

    /// The nodes, the shared nil node included when the hash part is empty.
    #[inline(always)]
    pub fn nodes(&self) -> &[Node] {
        // SAFETY: `node` points to `hmask + 1` initialised nodes (one shared one when empty).
        unsafe { std::slice::from_raw_parts(self.node, self.hmask as usize + 1) }
    }
}

impl Heap {
    /// The node of every empty hash part.
    #[inline(always)]
    pub fn nil_node_ptr(&self) -> *mut Node {
        &raw const *self.nil_node as *mut Node
    }

    /// A table with `asize` array slots (key 0 included) and `1 << hbits` nodes (none for 0). The sizes
    /// are within [`crate::limits`]; large ones the caller asks [`Heap::may_alloc`] about first.
    #[inline]
    pub fn new_table(&mut self, asize: u32, hbits: u32) -> Gc<Table> {
        let abytes = asize as usize * 8;
        let nodes = if hbits == 0 { 0 } else { 1usize << hbits };
        let bytes = PARTS_OFFSET + abytes + nodes * NODE;
        if bytes <= CELL_MAX {
            let (p, _) = self.alloc(Group::Obj, bytes);
            let array = p.wrapping_add(PARTS_OFFSET) as *mut Value;
            let node = if nodes == 0 {
                self.nil_node_ptr()
            } else {
                array.wrapping_add(asize as usize) as *mut Node
            };
            // SAFETY: the cell has room for the struct and both parts.
            unsafe { init_table(p, array, asize, node, nodes) }
        } else {
            self.new_table_large(asize, nodes)
        }
    }

    #[cold]
    fn new_table_large(&mut self, asize: u32, nodes: usize) -> Gc<Table> {
        let abytes = asize as usize * 8;
        let array_inline = PARTS_OFFSET + abytes <= CELL_MAX;
        let (p, _) = self.alloc(Group::Obj, PARTS_OFFSET + if array_inline { abytes } else { 0 });
        // Nothing collects between these allocations.
        let array =
            if array_inline { p.wrapping_add(PARTS_OFFSET) } else { self.alloc_part(abytes) } as *mut Value;
        let node = if nodes == 0 { self.nil_node_ptr() } else { self.alloc_part(nodes * NODE) as *mut Node };
        // SAFETY: each part was allocated with its size.
        unsafe { init_table(p, array, asize, node, nodes) }
    }

    /// A table for `narr` array elements and `nrec` other entries (`table.new`).
    pub fn new_table_sized(&mut self, narr: usize, nrec: usize) -> Result<Gc<Table>, TableErr> {
        let hbits = hash_bits(nrec);
        let asize = if narr == 0 { 0 } else { narr + 1 };
        if asize > crate::limits::TABLE_ARRAY_MAX || hbits > crate::limits::TABLE_HASH_BITS_MAX {
            return Err(TableErr::Overflow);
        }
        self.may_alloc(asize * 8 + nrec * NODE)?;
        Ok(self.new_table(asize as u32, hbits))
    }

    /// A copy of a template: same parts, same order, no metatable.
    #[inline]
    pub fn dup_table(&mut self, src: Gc<Table>) -> Gc<Table> {
        let t = src.get(self);
        let (asize, nodes) = (t.asize, t.hash_size());
        let hbits = if nodes == 0 { 0 } else { t.hmask.trailing_ones() };
        let new = self.new_table_uninit(asize, nodes);
        // SAFETY: both tables have parts of the same sizes, and the new one's are not shared yet.
        unsafe {
            let (s, d) = (&*src.as_ptr(), &mut *new.as_ptr());
            std::ptr::copy_nonoverlapping(s.array, d.array, asize as usize);
            if nodes != 0 {
                std::ptr::copy_nonoverlapping(s.node, d.node, nodes);
                d.hdr.aux = s.hdr.aux;
                d.hdr.extra = hbits as u8;
            }
        }
        new
    }

    /// As `new_table`, with parts that the caller fills.
    #[inline]
    fn new_table_uninit(&mut self, asize: u32, nodes: usize) -> Gc<Table> {
        let abytes = asize as usize * 8;
        let bytes = PARTS_OFFSET + abytes + nodes * NODE;
        let (p, array, node);
        if bytes <= CELL_MAX {
            p = self.alloc(Group::Obj, bytes).0;
            array = p.wrapping_add(PARTS_OFFSET) as *mut Value;
            node = if nodes == 0 {
                self.nil_node_ptr()
            } else {
                array.wrapping_add(asize as usize) as *mut Node
            };
        } else {
            p = self.alloc(Group::Obj, PARTS_OFFSET).0;
            array = if asize == 0 {
                p.wrapping_add(PARTS_OFFSET) as *mut Value
            } else {
                self.alloc_part(abytes) as *mut Value
            };
            node = if nodes == 0 { self.nil_node_ptr() } else { self.alloc_part(nodes * NODE) as *mut Node };
        }
        // SAFETY: the cell has room for the struct.
        unsafe {
            (p as *mut Table).write(Table {
                hdr: table_header(nodes),
                array,
                node,
                meta: None,
                asize,
                hmask: (nodes as u32).saturating_sub(1),
            })
        };
        Gc::from_addr(p as u64).expect("the allocator never returns null")
    }

    /// Sets the metatable, with the barrier.
    pub fn set_metatable(&mut self, t: Gc<Table>, meta: Option<Gc<Table>>) {
        t.get_mut(self).meta = meta;
        self.barrier(t);
    }
}

#[inline(always)]
fn table_header(nodes: usize) -> Header {
    let hbits = if nodes == 0 { 0 } else { nodes.trailing_zeros() };
    Header { kind: Kind::Tab as u8, gc: 0, flags: 0, extra: hbits as u8, aux: nodes as u32 }
}

/// Fills in a table with empty parts.
///
/// # Safety
/// `p` has room for a table, `array` for `asize` values, `node` for `nodes` nodes (if not 0).
#[inline(always)]
unsafe fn init_table(p: *mut u8, array: *mut Value, asize: u32, node: *mut Node, nodes: usize) -> Gc<Table> {
    // SAFETY: the caller's promise.
    unsafe {
        (p as *mut Table).write(Table {
            hdr: table_header(nodes),
            array,
            node,
            meta: None,
            asize,
            hmask: (nodes as u32).saturating_sub(1),
        });
        for i in 0..asize as usize {
            array.add(i).write(Value::NIL);
        }
        for i in 0..nodes {
            node.add(i).write(Node::FREE);
        }
    }
    Gc::from_addr(p as u64).expect("the allocator never returns null")
}

impl Node {
    /// The next node of the chain of `n`, or null.
    ///
    /// # Safety
    /// `n` is a node of a table's hash part.
    #[inline(always)]
    pub unsafe fn following(n: *mut Node) -> *mut Node {
        // SAFETY: the caller's promise; an offset that is not 0 leads to a node of the same part.
        unsafe {
            match (*n).next {
                0 => std::ptr::null_mut(),
                d => n.byte_offset(d as isize),
            }
        }
    }

    /// Makes `to` the next node of the chain of `n`; null ends it.
    ///
    /// # Safety
    /// Both are nodes of the same hash part.
    #[inline(always)]
    unsafe fn set_following(n: *mut Node, to: *mut Node) {
        // SAFETY: the caller's promise; a part is smaller than 2^31 bytes.
        unsafe { (*n).next = if to.is_null() { 0 } else { (to as isize - n as isize) as i32 } }
    }

    /// A node never used.
    pub const FREE: Node = Node { val: Value::NIL, key: Value::NIL, next: 0, hash: 0 };
}

impl Gc<Table> {
    /// `t[k]` for an integer; nil if absent. No metamethods.
    #[inline(always)]
    pub fn geti(self, heap: &Heap, k: impl Into<i64>) -> Value {
        self.get(heap).geti(k.into())
    }

    /// `t[s]` for a string; nil if absent. No metamethods.
    #[inline(always)]
    pub fn gets(self, heap: &Heap, k: Gc<Str>) -> Value {
        match heap.str_key_find(k) {
            Some(k) => self.get(heap).gets(k),
            None => Value::NIL,
        }
    }

    /// `t[k]` for any value; nil if absent. No metamethods.
    #[inline]
    pub fn getv(self, heap: &Heap, k: Value) -> Value {
        if let Some(s) = k.as_obj::<Str>() {
            return self.gets(heap, s);
        }
        let p = self.get(heap).find(k);
        // SAFETY: `find` returns null or a slot of this table.
        if p.is_null() { Value::NIL } else { unsafe { *p } }
    }

    /// The value of the string key `k`, given as bytes; nil if absent.
    pub fn get_bytes(self, heap: &Heap, k: &[u8]) -> Value {
        match heap.str_find(k) {
            Some(k) => self.get(heap).gets(k),
            None => Value::NIL,
        }
    }

    /// `t[k] = v` for an integer. No metamethods; with the barrier.
    #[inline]
    pub fn seti(self, heap: &mut Heap, k: impl Into<i64>, v: Value) -> Result<(), TableErr> {
        let k = k.into();
        let slot = heap.slot_for_int(self, k)?;
        // SAFETY: the slot belongs to this table, and nothing ran since it was found.
        unsafe { *slot = v };
        self.wrote(heap, v);
        Ok(())
    }

    /// `t[s] = v` for a string. No metamethods; with the barrier; forgets cached metamethods.
    #[inline]
    pub fn sets(self, heap: &mut Heap, k: Gc<Str>, v: Value) -> Result<(), TableErr> {
        let k = heap.str_key(k);
        let slot = heap.slot_for_key(self, Value::obj(k))?;
        // SAFETY: as in `seti`.
        unsafe { *slot = v };
        self.get_mut(heap).hdr.flags = 0;
        self.wrote(heap, v);
        Ok(())
    }

    /// `t[k] = v` for any key. No metamethods; with the barrier; forgets cached metamethods.
    pub fn setv(self, heap: &mut Heap, k: Value, v: Value) -> Result<(), TableErr> {
        let slot = heap.slot_for_set(self, k)?;
        // SAFETY: as in `seti`.
        unsafe { *slot = v };
        self.get_mut(heap).hdr.flags = 0;
        self.wrote(heap, v);
        Ok(())
    }

    /// `t[k] = v` for a key given as bytes.
    pub fn set_bytes(self, heap: &mut Heap, k: &[u8], v: Value) -> Result<(), TableErr> {
        let k = heap.str_intern(k);
        self.sets(heap, k, v)
    }

    #[inline(always)]
    fn wrote(self, heap: &mut Heap, v: Value) {
        if v.is_gc() && self.get(heap).hdr.gc & gcbits::BLACK != 0 {
            heap.barrier_back(self.cast());
        }
    }
}

const _: () = {
    assert!(std::mem::size_of::<Table>() == 40);
    assert!(std::mem::size_of::<Node>() == 24);
    assert!(24u64 << crate::limits::TABLE_HASH_BITS_MAX <= i32::MAX as u64);
};

#[cfg(test)]
pub mod tests;
