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
use crate::index::TraceNo;
use crate::table::Table;
use crate::table::hash::dead_key;
use crate::thread::Thread;
use crate::userdata::Userdata;
use crate::value::Value;

/// Slots of a table looked at in one go.
const SLICE: usize = 8192;

/// Marks the object of a value, if it has one.
#[inline(always)]
pub fn mark_value(heap: &mut Heap, v: Value) {
    if v.is_gc()
        && let Some(h) = v.as_header()
    {
        mark_header(heap, h);
    }
}

/// Marks an object.
#[inline(always)]
pub fn mark<T>(heap: &mut Heap, o: Gc<T>) {
    mark_header(heap, o.cast());
}

#[inline(always)]
fn mark_header(heap: &mut Heap, h: Gc<Header>) {
    if heap.set_mark(h) {
        let kind = h.get(heap).kind;
        if kind != Kind::Str as u8 && kind != Kind::Cdata as u8 {
            heap.lists.gray.push(h);
        }
    }
}

/// Looks at gray objects until `budget` bytes are done; returns what is left of it (0 or less: stopped).
pub fn propagate(heap: &mut Heap, budget: isize) -> isize {
    let mut left = budget;
    while left > 0 {
        if let Some(h) = heap.lists.gray.pop() {
            left -= look_at(heap, h) as isize;
        } else if let Some((h, at)) = heap.lists.sliced.pop() {
            left -= table_slice(heap, h.cast(), at) as isize;
        } else {
            break;
        }
    }
    left
}

/// Is there nothing gray?
pub fn is_drained(heap: &Heap) -> bool {
    heap.lists.gray.is_empty() && heap.lists.sliced.is_empty()
}

/// Makes an object black and marks what it refers to; returns the bytes looked at.
fn look_at(heap: &mut Heap, h: Gc<Header>) -> usize {
    let hdr = h.get_mut(heap);
    let kind = hdr.kind;
    hdr.gc |= gcbits::BLACK;
    // SAFETY (all arms): the kind byte says what the object is; objects on the gray list are alive, and
    // nothing is freed while marking. The reads do not overlap with the mark bits and lists written.
    match kind {
        k if k == Kind::Tab as u8 => table(heap, h.cast()),
        k if k == Kind::Func as u8 => function(heap, h.cast()),
        k if k == Kind::Upval as u8 => {
            let tv = h.cast::<Upval>().get(heap).tv;
            mark_value(heap, tv);
            32
        }
        k if k == Kind::Udata as u8 => {
            let u = h.cast::<Userdata>().get(heap);
            let (meta, env) = (u.meta, u.env);
            if let Some(m) = meta {
                mark(heap, m);
            }
            if let Some(e) = env {
                mark(heap, e);
            }
            48
        }
        k if k == Kind::Proto as u8 => proto(heap, h.cast()),
        k if k == Kind::Thread as u8 => {
            // A stack is written without barriers: it is looked at again when marking ends.
            h.get_mut(heap).gc &= !gcbits::BLACK;
            heap.lists.threads.push(h);
            thread(heap, h.cast())
        }
        _ => {
            debug_assert!(false, "an object of kind {kind} is never gray");
            16
        }
    }
}

fn function(heap: &mut Heap, f: Gc<Func>) -> usize {
    let env = f.get(heap).env;
    mark(heap, env);
    let n = f.get(heap).nupvals();
    if f.get(heap).is_native() {
        let f: Gc<NativeFunc> = f.cast();
        for i in 0..n {
            let v = f.get(heap).upvals()[i];
            mark_value(heap, v);
        }
    } else {
        let f: Gc<LuaFunc> = f.cast();
        let p = f.get(heap).proto;
        mark(heap, p);
        for i in 0..n {
            let u = f.get(heap).upvals()[i];
            mark(heap, u);
        }
    }
    32 + n * 8
}

fn proto(heap: &mut Heap, p: Gc<Proto>) -> usize {
    let o = p.get(heap);
    let (k, nkgc, name, trace, ncode) = (o.k, o.nkgc as usize, o.chunkname, o.trace, o.ncode as usize);
    mark(heap, name);
    for i in 1..=nkgc {
        // SAFETY: `nkgc` constants lie below the middle of the constants.
        let v = unsafe { *k.sub(i) };
        mark_value(heap, v);
    }
    if trace != 0 {
        heap.lists.traced.push(TraceNo::new(trace));
    }
    96 + nkgc * 8 + ncode
}

/// Marks what a coroutine refers to: the slots below `top`.
pub fn thread(heap: &mut Heap, t: Gc<Thread>) -> usize {
    let o = t.get(heap);
    let (env, resumer, stack, top) = (o.env, o.resumer, o.stack, o.top);
    mark(heap, env);
    if let Some(r) = resumer {
        mark(heap, r);
    }
    let mut p = stack;
    while p < top {
        // SAFETY: slots from `stack` to `top` are initialised; raw words among them look like numbers.
        let v = unsafe { *p };
        mark_value(heap, v);
        p = p.wrapping_add(1);
    }
    96 + (top as usize - stack as usize)
}

fn table(heap: &mut Heap, t: Gc<Table>) -> usize {
    let o = t.get(heap);
    let (meta, array, nodes) = (o.meta, o.array_part(), o.node_part());
    if let Some((p, bytes)) = array {
        heap.mark_part(p, bytes);
    }
    if let Some((p, bytes)) = nodes {
        heap.mark_part(p, bytes);
    }
    if let Some(m) = meta {
        mark(heap, m);
        let mode = weak::mode(heap, m);
        let o = t.get_mut(heap);
        o.hdr.gc = o.hdr.gc & !(gcbits::WEAK_KEY | gcbits::WEAK_VAL) | mode;
        if mode != 0 {
            heap.lists.weak.push(t.cast());
        }
    } else {
        t.get_mut(heap).hdr.gc &= !(gcbits::WEAK_KEY | gcbits::WEAK_VAL);
    }
    table_slice(heap, t, 0)
}

/// Looks at the entries of a table from position `at` (array slots, then nodes).
fn table_slice(heap: &mut Heap, t: Gc<Table>, at: usize) -> usize {
    let o = t.get(heap);
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
                mark_value(heap, *array.add(i));
            }
        }
        for i in at.max(asize)..end {
            let n = node.add(i - asize);
            if (*n).val.is_nil() {
                if (*n).key.is_gc() {
                    if gc & gcbits::TEMPLATE != 0 {
                        mark_value(heap, (*n).key);
                    } else {
                        (*n).key = dead_key((*n).key);
                    }
                }
                continue;
            }
            if !weak_key {
                mark_value(heap, (*n).key);
            }
            if !weak_val {
                mark_value(heap, (*n).val);
            }
        }
    }
    if end < total {
        heap.lists.sliced.push((t.cast(), end));
    }
    40 + end.min(asize).saturating_sub(at) * 8 + end.saturating_sub(at.max(asize)) * 24
}
