//! The memory of a Lua stack: growing, moving, open upvalues. Knows frames only as slots; knows no VM.

use super::Thread;
use super::frame::{self, FIRST_BASE, LINK_CORO, LINK_RUN};
use crate::bytecode::instr::Instr;
use crate::cell::gc_ref::Gc;
use crate::function::closure::Func;
use crate::function::upvalue::Upval;
use crate::heap::Heap;
use crate::limits::{STACK_ERR_EXTRA, STACK_EXTRA, STACK_MAX};
use crate::value::Value;

/// A stack that cannot grow: the program recursed too deep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StackError {
    /// The limit is reached for the first time; the error handlers' reserve is now open.
    Overflow,
    /// The reserve is used up too.
    ErrorInError,
}

impl Gc<Thread> {
    /// Moves the stack into a block of `slots` slots; open upvalues follow.
    pub fn resize_stack(self, heap: &mut Heap, slots: usize) {
        let t = self.get(heap);
        let (old, old_size, used, open) = (t.stack, t.size as usize, t.top_index(), t.open);
        let base_index = t.base_index();
        debug_assert!(used <= slots);
        let new = heap.alloc_stack(slots);
        let copy = old_size.min(slots);
        // SAFETY: both blocks hold at least `copy` slots and do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(old, new, copy) };
        let mut uv = open;
        while let Some(u) = uv {
            let u = u.get_mut(heap);
            let at = (u.v as usize - old as usize) / std::mem::size_of::<Value>();
            u.v = new.wrapping_add(at);
            uv = u.next;
        }
        let t = self.get_mut(heap);
        t.stack = new;
        t.size = slots as u32;
        t.base = new.wrapping_add(base_index);
        t.top = new.wrapping_add(used);
        t.maxstack = new.wrapping_add(slots - STACK_EXTRA);
        // SAFETY: the old block came from `alloc_stack(old_size)`; base, top and upvalues now point elsewhere.
        unsafe { heap.free_stack(old, old_size) };
    }

    /// Makes room for `need` slots above `from` (an index). Beyond the limit of programs the reserve for error
    /// handlers is opened and an overflow reported.
    pub fn grow_stack(self, heap: &mut Heap, from: usize, need: usize) -> Result<(), StackError> {
        let size = self.get(heap).size as usize;
        let want = from + need + STACK_EXTRA;
        if want <= size {
            return Ok(());
        }
        if want > STACK_MAX {
            if size >= STACK_MAX + STACK_ERR_EXTRA {
                return Err(StackError::ErrorInError);
            }
            self.resize_stack(heap, STACK_MAX + STACK_ERR_EXTRA);
            return if size > STACK_MAX { Ok(()) } else { Err(StackError::Overflow) };
        }
        self.resize_stack(heap, (size * 2).max(want).min(STACK_MAX));
        Ok(())
    }

    /// Base index of the frame below the one at `base`; `None` at the bottom.
    pub fn prev_base(self, heap: &Heap, base: usize) -> Option<usize> {
        if base <= FIRST_BASE {
            return None;
        }
        let t = self.get(heap);
        // SAFETY: indices come from frame links of this stack and lie inside it.
        let word = |i: usize| unsafe { (*t.stack.add(i)).0 };
        let link = word(base - 1);
        if frame::is_lua(link) {
            // SAFETY: a return pc points behind a call instruction of a live prototype.
            let call = Instr(unsafe { *(link as *const u32).sub(1) });
            return Some(base - 2 - call.a() as usize);
        }
        match link {
            LINK_CORO => None,
            LINK_RUN => Some(base - word(base - 3) as usize),
            _ => Some(base - frame::delta(link)),
        }
    }

    /// Slots that the frames of a coroutine that does not run need: a function's registers may reach above what it
    /// calls.
    pub fn slots_needed(self, heap: &Heap) -> usize {
        let t = self.get(heap);
        let mut need = t.top_index();
        let mut at = Some(t.base_index());
        while let Some(base) = at {
            // SAFETY: every base has its function and link below; a fresh coroutine has its first two slots.
            let (f, link) = unsafe {
                (*t.stack.add(base.max(FIRST_BASE) - 2), (*t.stack.add(base.max(FIRST_BASE) - 1)).0)
            };
            if let Some(f) = f.as_obj::<Func>().and_then(|f| f.as_lua(heap)) {
                need = need.max(base + f.get(heap).proto.get(heap).framesize as usize);
            }
            if link == 0 {
                break;
            }
            at = self.prev_base(heap, base);
        }
        need
    }

    /// Gives the error handlers' reserve back once the stack is low again.
    pub fn relimit_stack(self, heap: &mut Heap) {
        let t = self.get(heap);
        if t.size as usize > STACK_MAX && self.slots_needed(heap) + STACK_EXTRA < STACK_MAX - 1 {
            self.resize_stack(heap, STACK_MAX);
        }
    }

    /// The open upvalue for `slot`, made when there is none.
    pub fn find_upval(self, heap: &mut Heap, slot: *mut Value) -> Gc<Upval> {
        let mut prev: Option<Gc<Upval>> = None;
        let mut at = self.get(heap).open;
        while let Some(u) = at {
            let (v, next) = {
                let u = u.get(heap);
                (u.v, u.next)
            };
            if v == slot {
                return u;
            }
            if v < slot {
                break;
            }
            prev = Some(u);
            at = next;
        }
        let u = heap.new_upval_open(self, slot);
        u.get_mut(heap).next = at;
        match prev {
            Some(p) => p.get_mut(heap).next = Some(u),
            None => self.get_mut(heap).open = Some(u),
        }
        u
    }

    /// Closes all upvalues at or above `level`.
    pub fn close_upvals(self, heap: &mut Heap, level: *mut Value) {
        while let Some(u) = self.get(heap).open {
            let (v, next) = {
                let u = u.get(heap);
                (u.v, u.next)
            };
            if v < level {
                break;
            }
            self.get_mut(heap).open = next;
            heap.close_upval(u);
        }
    }
}
