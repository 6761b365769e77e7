//! Upvalues: open ones point into a Lua stack, closed ones at their own slot.

use crate::cell::gc_ref::Gc;
use crate::cell::header::{Header, Kind};
use crate::heap::Heap;
use crate::heap::arena::Group;
use crate::value::{Object, Value, tag};

/// An upvalue.
#[repr(C)]
pub struct Upval {
    /// Header; `flags` is 1 when closed, `extra` is 1 when immutable, `aux` a hash for the JIT's alias analysis.
    pub hdr: Header,
    /// Where the value is: a stack slot, or `&self.tv`.
    pub v: *mut Value,
    /// The value once closed. While open, the thread whose stack the slot is on: who keeps the upvalue
    /// keeps that stack.
    pub tv: Value,
    /// Next open upvalue of the same thread, at a lower slot.
    pub next: Option<Gc<Upval>>,
}

// SAFETY: `Upval` is `repr(C)` and starts with its header of kind `Upval`.
unsafe impl Object for Upval {
    const TAG: tag::Tag = tag::UPVAL;
}

impl Heap {
    /// An open upvalue for a slot of the stack of `thread`. The caller links it into that thread's list.
    #[inline]
    pub fn new_upval_open<T: Object>(&mut self, thread: Gc<T>, slot: *mut Value) -> Gc<Upval> {
        self.upval_alloc(slot, Value::obj(thread))
    }

    #[inline]
    fn upval_alloc(&mut self, slot: *mut Value, tv: Value) -> Gc<Upval> {
        let (p, _) = self.alloc(Group::Obj, std::mem::size_of::<Upval>());
        let hdr = Header { kind: Kind::Upval as u8, gc: 0, flags: 0, extra: 0, aux: 0 };
        // SAFETY: the cell has room for the struct.
        unsafe { (p as *mut Upval).write(Upval { hdr, v: slot, tv, next: None }) };
        Gc::from_addr(p as u64).expect("the allocator never returns null")
    }

    /// A closed upvalue that holds `v`.
    #[inline]
    pub fn new_upval_closed(&mut self, v: Value) -> Gc<Upval> {
        let u = self.upval_alloc(std::ptr::null_mut(), v);
        let o = u.get_mut(self);
        o.v = &raw mut o.tv;
        o.hdr.flags = 1;
        u
    }

    /// Closes an open upvalue: its value moves from the stack into it. The caller has unlinked it.
    #[inline]
    pub fn close_upval(&mut self, u: Gc<Upval>) {
        let o = u.get_mut(self);
        // SAFETY: an open upvalue points to a live stack slot.
        o.tv = unsafe { *o.v };
        o.v = &raw mut o.tv;
        o.hdr.flags = 1;
        o.next = None;
        self.barrier(u);
    }
}

impl Gc<Upval> {
    /// The value.
    #[inline(always)]
    pub fn read(self, heap: &Heap) -> Value {
        // SAFETY: `v` points to a live stack slot or to the object's own value.
        unsafe { *self.get(heap).v }
    }

    /// Sets the value, with the barrier.
    #[inline(always)]
    pub fn write(self, heap: &mut Heap, v: Value) {
        // SAFETY: as in `read`.
        unsafe { *self.get(heap).v = v };
        heap.barrier(self);
    }
}
