//! Marking: what each kind of object refers to. Knows no VM: roots are handed in as values.
//!
//! An object is *marked* once (and put on the gray list), then *looked at*: it becomes black and what it
//! refers to is marked. Strings and C data refer to nothing.

use super::weak;
use crate::cell::gc_ref::Gc;
use crate::cell::header::{Header, Kind, gcbits};
use crate::function::closure::{Func, LuaFunc, NativeFunc};
use crate::function::proto::Proto;
use crate::function::upvalue::Upval;
use crate::heap::Heap;
use crate::heap::arena::prefetch;
use crate::heap::zeal::Zeal;
use crate::index::TraceNo;
use crate::limits::{STACK_EXTRA, STACK_START};
use crate::table::Table;
use crate::table::hash::dead_key;
use crate::thread::{SEEN, Status, Thread};
use crate::userdata::Userdata;
use crate::value::{Value, tag};

/// Slots of a table looked at in one go.
const SLICE: usize = 2048;
/// Objects on their way from a reference to their mark while their memory is being fetched.
const RING: usize = 16;

/// How references met are marked: at once, or after a turn in the ring.
trait Way {
    const RING: bool;
}
/// At once: a heap that fits the caches.
struct Direct;
impl Way for Direct {
    const RING: bool = false;
}
/// Through the ring: each object is fetched while others are being marked. Pays on large heaps only.
struct Ahead;
impl Way for Ahead {
    const RING: bool = true;
}

/// References waiting for their memory.
pub struct Ring {
    slots: [Option<Gc<Header>>; RING],
    at: usize,
}

impl Ring {
    const EMPTY: Ring = Ring { slots: [None; RING], at: 0 };
}

/// The state of one call of [`propagate`].
struct Marker<'h, W: Way> {
    heap: &'h mut Heap,
    ring: Ring,
    popped: [Option<Gc<Header>>; RING],
    popped_at: usize,
    leaves: usize,
    way: std::marker::PhantomData<W>,
}

/// Marks the object of a value, if it has one.
#[inline(always)]
pub fn mark_value(heap: &mut Heap, v: Value) {
    if v.is_gc()
        && let Some(h) = v.as_header()
    {
        mark_now(heap, h);
    }
}

/// Marks an object.
pub fn mark<T>(heap: &mut Heap, o: Gc<T>) {
    mark_now(heap, o.cast());
}

/// Marks an object; returns 1 if that was all there is to do with it.
#[inline(always)]
fn mark_now(heap: &mut Heap, h: Gc<Header>) -> usize {
    if heap.set_mark(h) {
        let kind = h.get(heap).kind;
        if kind == Kind::Str as u8 || kind == Kind::Cdata as u8 {
            return 1;
        }
        heap.lists.gray.push(h);
    }
    0
}

/// What marking a leaf costs, in bytes looked at.
const LEAF: usize = 24;

/// What an object may cost beyond its size in a minor cycle: those that were written to lie anywhere, and each is waited
/// for. Steps are shorter for it, but not so short that a program which writes to old objects all the time writes faster
/// than they look. What a cycle is said to have cost ([`crate::heap::Generations::work`]) is without.
const FAR: usize = 64;

/// Looks at gray objects until `budget` bytes are done; returns what is left of it (0 or less: stopped).
pub fn propagate(heap: &mut Heap, budget: isize) -> isize {
    if heap.acct.live < heap.acct.fetch_ahead_from {
        Marker::<Direct>::new(heap).propagate(budget)
    } else {
        Marker::<Ahead>::new(heap).propagate(budget)
    }
}

/// Marks what a coroutine refers to: the slots below `top`.
pub fn thread(heap: &mut Heap, t: Gc<Thread>) {
    let mut m = Marker::<Direct>::new(heap);
    m.thread(t);
}

/// Slots above `top` may hold references to objects about to be freed.
pub fn clear_above_top(heap: &mut Heap, t: Gc<Thread>) {
    let o = t.get_mut(heap);
    let end = o.stack.wrapping_add(o.size as usize);
    let mut p = o.top;
    while p < end {
        // SAFETY: `top` lies inside the stack, which has `size` slots.
        unsafe { *p = Value::NIL };
        p = p.wrapping_add(1);
    }
}

/// Gives a coroutine that waits a smaller stack when it uses little of a large one. Under stress its stack
/// moves in any case.
fn shrink_stack(heap: &mut Heap, t: Gc<Thread>) {
    let o = t.get(heap);
    let used = t.slots_needed(heap);
    let slots = (used * 2).max(STACK_START) + STACK_EXTRA;
    // Others than suspended ones may have their stack's address in a frame of the host.
    if o.status() == Status::Suspended && o.nruns == 0 {
        if o.size as usize > 2 * slots {
            t.resize_stack(heap, slots);
        } else if heap.zeal() != Zeal::Off {
            let size = o.size as usize;
            t.resize_stack(heap, size);
        }
    }
}

/// Is there nothing gray?
pub fn is_drained(heap: &Heap) -> bool {
    heap.lists.gray.is_empty() && heap.lists.sliced.is_empty()
}

impl<'h, W: Way> Marker<'h, W> {
    fn new(heap: &'h mut Heap) -> Self {
        Marker {
            heap,
            ring: Ring::EMPTY,
            popped: [None; RING],
            popped_at: 0,
            leaves: 0,
            way: std::marker::PhantomData,
        }
    }

    fn propagate(&mut self, budget: isize) -> isize {
        let mut left = budget;
        let far = if self.heap.gens.minor { FAR as isize } else { 0 };
        let mut looks = 0;
        loop {
            if left <= 0 {
                break;
            }
            if let Some(mut h) = self.heap.lists.gray.pop() {
                if W::RING {
                    // Its memory is fetched while those before it are looked at.
                    prefetch(h.as_ptr() as *const u8);
                    let slot = &mut self.popped[self.popped_at % RING];
                    self.popped_at += 1;
                    match slot.replace(h) {
                        Some(old) => h = old,
                        None => continue,
                    }
                }
                left -= self.look_at(h) as isize + far;
                looks += 1;
            } else if W::RING && self.flush() {
                continue;
            } else if let Some(h) = self.popped.iter_mut().find_map(Option::take) {
                left -= self.look_at(h) as isize;
            } else if let Some((h, at)) = self.heap.lists.sliced.pop() {
                left -= self.table_slice(h.cast(), at) as isize;
            } else {
                break;
            }
            left -= (self.leaves * LEAF) as isize;
            self.leaves = 0;
        }
        if W::RING {
            self.flush();
            let popped = std::mem::replace(&mut self.popped, [None; RING]);
            self.heap.lists.gray.extend(popped.into_iter().flatten());
        }
        self.heap.gens.work += (budget - left - looks * far) as u64;
        left
    }

    /// Empties the ring; returns whether there was anything in it.
    fn flush(&mut self) -> bool {
        let mut any = false;
        for i in 0..RING {
            if let Some(h) = self.ring.slots[i].take() {
                self.leaves += mark_now(self.heap, h);
                any = true;
            }
        }
        any
    }

    #[inline(always)]
    fn value(&mut self, v: Value) {
        if v.tag() == tag::TAB {
            // Tables are never large objects: a marked one is passed over without touching it.
            let p = v.payload() as *mut u8;
            if self.heap.mark_cell(p)
                && let Some(h) = v.as_header()
            {
                self.heap.lists.gray.push(h);
            }
        } else if v.is_gc()
            && let Some(h) = v.as_header()
        {
            self.header(h);
        }
    }

    #[inline(always)]
    fn object<T>(&mut self, o: Gc<T>) {
        self.header(o.cast());
    }

    #[inline(always)]
    fn header(&mut self, h: Gc<Header>) {
        if W::RING {
            prefetch(h.as_ptr() as *const u8);
            let slot = &mut self.ring.slots[self.ring.at % RING];
            self.ring.at += 1;
            if let Some(old) = slot.replace(h) {
                self.leaves += mark_now(self.heap, old);
            }
        } else {
            self.leaves += mark_now(self.heap, h);
        }
    }

    /// Makes an object black and marks what it refers to; returns the bytes looked at.
    fn look_at(&mut self, h: Gc<Header>) -> usize {
        let hdr = h.get_mut(self.heap);
        let kind = hdr.kind;
        // Objects of earlier cycles are black already: not written, their pages stay clean (and shared with
        // a forked process).
        if hdr.gc & gcbits::BLACK == 0 && kind != Kind::Thread as u8 {
            hdr.gc |= gcbits::BLACK;
        }
        // SAFETY (all arms): the kind byte says what the object is; objects on the gray list are alive, and
        // nothing is freed while marking. The reads do not overlap with the mark bits and lists written.
        match kind {
            k if k == Kind::Tab as u8 => self.table(h.cast()),
            k if k == Kind::Func as u8 => self.function(h.cast()),
            k if k == Kind::Upval as u8 => {
                // An open one may have been written to after its thread was looked at.
                let u = h.cast::<Upval>();
                let v = u.read(self.heap);
                self.value(v);
                let tv = u.get(self.heap).tv;
                self.value(tv);
                32
            }
            k if k == Kind::Udata as u8 => {
                let u = h.cast::<Userdata>().get(self.heap);
                let (meta, env) = (u.meta, u.env);
                if let Some(m) = meta {
                    self.object(m);
                }
                if let Some(e) = env {
                    self.object(e);
                }
                48
            }
            k if k == Kind::Proto as u8 => self.proto(h.cast()),
            k if k == Kind::Thread as u8 => {
                // A stack is written without barriers. That of a thread which does not run stays as it is
                // until it does; any other is looked at again when marking ends.
                self.heap.lists.threads.push(h);
                let t: Gc<Thread> = h.cast();
                let runs = match t.get(self.heap).status() {
                    Status::Suspended | Status::Dead => false,
                    Status::Normal => true,
                    // Others that look as if they ran wait for the host.
                    Status::Running => self.heap.lists.running == Some(h),
                };
                if !runs {
                    shrink_stack(self.heap, t);
                    if t.get(self.heap).hdr.flags & SEEN == 0 {
                        clear_above_top(self.heap, t);
                        t.get_mut(self.heap).hdr.flags |= SEEN;
                    }
                }
                self.thread(h.cast())
            }
            _ => {
                debug_assert!(false, "an object of kind {kind} is never gray");
                16
            }
        }
    }

    fn function(&mut self, f: Gc<Func>) -> usize {
        let env = f.get(self.heap).env;
        self.object(env);
        let n = f.get(self.heap).nupvals();
        if f.get(self.heap).is_native() {
            let f: Gc<NativeFunc> = f.cast();
            for i in 0..n {
                let v = f.get(self.heap).upvals()[i];
                self.value(v);
            }
        } else {
            let f: Gc<LuaFunc> = f.cast();
            let p = f.get(self.heap).proto;
            self.object(p);
            for i in 0..n {
                let u = f.get(self.heap).upvals()[i];
                self.object(u);
            }
        }
        32 + n * 8
    }

    fn proto(&mut self, p: Gc<Proto>) -> usize {
        let o = p.get(self.heap);
        let (k, nkgc, name, trace, ncode) = (o.k, o.nkgc as usize, o.chunkname, o.trace, o.ncode as usize);
        self.object(name);
        for i in 1..=nkgc {
            // SAFETY: `nkgc` constants lie below the middle of the constants.
            let v = unsafe { *k.sub(i) };
            self.value(v);
        }
        if trace != 0 {
            self.heap.lists.traced.push(TraceNo::new(trace));
        }
        96 + nkgc * 8 + ncode
    }

    /// Marks what a coroutine refers to: the slots below `top`.
    fn thread(&mut self, t: Gc<Thread>) -> usize {
        let o = t.get(self.heap);
        let (env, resumer, stack, top) = (o.env, o.resumer, o.stack, o.top);
        self.object(env);
        if let Some(r) = resumer {
            self.object(r);
        }
        let mut p = stack;
        while p < top {
            // SAFETY: slots from `stack` to `top` are initialised; raw words among them look like numbers.
            let v = unsafe { *p };
            self.value(v);
            p = p.wrapping_add(1);
        }
        96 + (top as usize - stack as usize)
    }

    fn table(&mut self, t: Gc<Table>) -> usize {
        let o = t.get(self.heap);
        let (meta, array, nodes) = (o.meta, o.array_part(), o.node_part());
        if let Some((p, bytes)) = array {
            self.heap.mark_part(p, bytes);
        }
        if let Some((p, bytes)) = nodes {
            self.heap.mark_part(p, bytes);
        }
        if let Some(m) = meta {
            self.object(m);
            let mode = weak::mode(self.heap, m);
            let weak = t.get(self.heap).hdr.gc & (gcbits::WEAK_KEY | gcbits::WEAK_VAL);
            if weak != mode {
                t.get_mut(self.heap).hdr.gc ^= weak ^ mode;
            }
            if mode != 0 {
                self.heap.lists.weak.push(t.cast());
            }
        } else if t.get(self.heap).hdr.gc & (gcbits::WEAK_KEY | gcbits::WEAK_VAL) != 0 {
            t.get_mut(self.heap).hdr.gc &= !(gcbits::WEAK_KEY | gcbits::WEAK_VAL);
        }
        self.table_slice(t, 0)
    }

    /// Looks at the entries of a table from position `at` (array slots, then nodes).
    fn table_slice(&mut self, t: Gc<Table>, at: usize) -> usize {
        let o = t.get(self.heap);
        let (array, asize, node, hsize, gc) = (o.array, o.asize as usize, o.node, o.hash_size(), o.hdr.gc);
        let total = asize + hsize;
        let end = total.min(at + SLICE);
        let weak_val = gc & gcbits::WEAK_VAL != 0;
        let weak_key = gc & gcbits::WEAK_KEY != 0;
        // SAFETY: positions are below the sizes of the parts just read; nothing changes them while marking.
        // Keys of entries with a value are alive.
        unsafe {
            if !weak_val {
                for i in at..end.min(asize) {
                    self.value(*array.add(i));
                }
            }
            for i in at.max(asize)..end {
                let n = node.add(i - asize);
                if (*n).val.is_nil() {
                    if (*n).key.is_gc() {
                        if gc & gcbits::TEMPLATE != 0 {
                            self.value((*n).key);
                        } else {
                            (*n).key = dead_key((*n).key);
                        }
                    }
                    continue;
                }
                if !weak_key {
                    self.value((*n).key);
                }
                if !weak_val {
                    self.value((*n).val);
                }
            }
        }
        if end < total {
            self.heap.lists.sliced.push((t.cast(), end));
        }
        40 + end.min(asize).saturating_sub(at) * 8 + end.saturating_sub(at.max(asize)) * 24
    }
}
