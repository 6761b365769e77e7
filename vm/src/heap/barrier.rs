//! The write barrier and the mark bits as headers see them.
//!
//! One header bit, [`gcbits::BLACK`], says that the collector has looked inside an object. A store of
//! a reference into such an object takes the bit away; while marking, the object is looked at again. So it is in the next
//! cycle when that is a minor one. Bits of an earlier cycle are left standing: the first store into such an object pays
//! one call.

use super::{Heap, Phase, arena};
use crate::cell::gc_ref::Gc;
use crate::cell::header::{Header, gcbits};
use crate::value::{Object, Value};

impl Heap {
    /// To be called after a reference was stored into `o`, when `o` is black.
    #[cold]
    #[inline(never)]
    pub fn barrier_back(&mut self, o: Gc<Header>) {
        o.get_mut(self).gc &= !gcbits::BLACK;
        if (self.phase == Phase::Mark || self.gens.sticky) && self.is_marked(o) {
            self.lists.again.push(o);
        }
    }

    /// The barrier with its test: to be called after a store into `o`.
    #[inline(always)]
    pub fn barrier<T: Object>(&mut self, o: Gc<T>) {
        let h: Gc<Header> = o.cast();
        if h.get(self).gc & gcbits::BLACK != 0 {
            self.barrier_back(h);
        }
    }

    /// Has the running cycle reached `o`? (After marking: is it alive?)
    #[inline(always)]
    pub fn is_marked(&self, o: Gc<Header>) -> bool {
        if o.get(self).gc & gcbits::LARGE != 0 {
            self.large_marked(o.as_ptr() as *const u8)
        } else {
            self.cell_marked(o.as_ptr() as *const u8)
        }
    }

    /// [`Heap::is_marked`] for an arena cell.
    #[inline(always)]
    pub fn cell_marked(&self, p: *const u8) -> bool {
        let (w, bit) = arena::bit_of(p);
        // SAFETY: `p` is an arena cell, so its block's front is mapped and initialised.
        unsafe { (*arena::block_of(p)).bits[self.mark_set as usize][w] & bit != 0 }
    }

    /// Sets the mark bit of an arena cell; returns whether it was clear.
    #[inline(always)]
    pub fn mark_cell(&mut self, p: *const u8) -> bool {
        let (w, bit) = arena::bit_of(p);
        // SAFETY: as for `cell_marked`; the heap is borrowed exclusively.
        unsafe {
            let word = &mut (*arena::block_of(p)).bits[self.mark_set as usize][w];
            let fresh = *word & bit == 0;
            *word |= bit;
            fresh
        }
    }

    /// Sets the mark of an object without asking for the heap exclusively: a lookup that finds a dead
    /// string while the intern table is being swept keeps it alive this way.
    #[cold]
    pub fn mark_shared(&self, o: Gc<Header>) {
        let p = o.as_ptr() as *mut u8;
        if o.get(self).gc & gcbits::LARGE != 0 {
            self.mark_large_shared(p);
        } else {
            let (w, bit) = arena::bit_of(p);
            // SAFETY: `p` is an arena cell; the heap belongs to one thread and no reference to a word of
            // mark bits is ever kept.
            unsafe { (*arena::block_of(p)).bits[self.mark_set as usize][w] |= bit };
        }
    }

    /// Sets the mark of an object; returns whether it was clear.
    #[inline(always)]
    pub fn set_mark(&mut self, o: Gc<Header>) -> bool {
        if o.get(self).gc & gcbits::LARGE != 0 {
            self.mark_large(o.as_ptr() as *mut u8)
        } else {
            self.mark_cell(o.as_ptr() as *const u8)
        }
    }
}

/// The barrier for machine code: `obj` is black and a reference was stored into it.
///
/// # Safety
/// `heap` is the heap `obj` lives in, and nobody else borrows it during the call.
pub unsafe extern "C" fn barrier_back_raw(heap: *mut Heap, obj: *mut Header) {
    if let Some(o) = Gc::from_addr(obj as u64) {
        // SAFETY: the caller's promise.
        unsafe { (*heap).barrier_back(o) }
    }
}

/// Would storing `v` need a barrier at all?
#[inline(always)]
pub fn is_reference(v: Value) -> bool {
    v.is_gc()
}
