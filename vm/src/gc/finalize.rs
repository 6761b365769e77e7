//! Finalizers: finding objects that died with one, and handing them out. Calling is the interpreter's.

use super::World;
use super::mark::mark_value;
use crate::cell::gc_ref::Gc;
use crate::cell::header::{Header, Kind, gcbits};
use crate::heap::Heap;
use crate::userdata::Userdata;
use crate::value::{Object, Value};

/// Part of the atomic step: unmarked userdata whose metatable has `__gc`, and unmarked C data with a
/// finalizer, go into the queue, newest first, userdata before C data. `all`: whether marked or not
/// (the end of a VM).
pub fn separate(heap: &mut Heap, all: bool) {
    for list in [Kind::Udata, Kind::Cdata] {
        let udata = list == Kind::Udata;
        let objects = std::mem::take(if udata { &mut heap.lists.udata } else { &mut heap.lists.cdata });
        let mut kept = Vec::with_capacity(objects.len());
        let mut dead = Vec::new();
        for h in objects {
            if heap.is_marked(h) && !all {
                // A finalizer was taken back: the list need not know the object.
                if h.get(heap).gc & gcbits::FINALIZED == 0 {
                    kept.push(h);
                } else {
                    h.get_mut(heap).gc &= !gcbits::HAS_FINALIZER;
                }
            } else if h.get(heap).gc & gcbits::FINALIZED == 0
                && (!udata || !metamethod(heap, h.cast()).is_nil())
            {
                dead.push(h);
            }
        }
        if udata {
            heap.lists.udata = kept;
        } else {
            heap.lists.cdata = kept;
        }
        for h in dead.into_iter().rev() {
            h.get_mut(heap).gc |= gcbits::FINALIZED;
            heap.lists.finalize.push_back(h);
        }
    }
}

/// Marks the objects in the queue: they live until their finalizer has run.
pub fn mark_queue(heap: &mut Heap) {
    for i in 0..heap.lists.finalize.len() {
        let v = value_of(heap, heap.lists.finalize[i]);
        mark_value(heap, v);
    }
}

/// The next object whose finalizer is due, and that finalizer. It leaves the queue: the caller roots
/// both before the next safepoint.
pub fn next<W: World>(w: &mut W) -> Option<(Value, Value)> {
    loop {
        let h = w.heap().lists.finalize.pop_front()?;
        let v = value_of(w.heap(), h);
        let f = match v.as_obj::<Userdata>() {
            Some(u) => metamethod(w.heap(), u),
            None => {
                // It can get another finalizer while this one runs.
                h.get_mut(w.heap()).gc &= !(gcbits::HAS_FINALIZER | gcbits::FINALIZED);
                w.cdata_finalizer(v).unwrap_or(Value::NIL)
            }
        };
        if !f.is_nil() {
            return Some((v, f));
        }
    }
}

fn value_of(heap: &Heap, h: Gc<Header>) -> Value {
    if h.get(heap).kind == Kind::Udata as u8 {
        Value::obj(h.cast::<Userdata>())
    } else {
        Value::obj(h.cast::<crate::cdata::Cdata>())
    }
}

fn metamethod(heap: &Heap, u: Gc<Userdata>) -> Value {
    match (u.get(heap).meta, heap.gc_names) {
        (Some(m), Some([_, name])) => m.get(heap).gets(name.cast()),
        _ => Value::NIL,
    }
}

const _: () = assert!(Userdata::TAG == crate::value::tag::UDATA);
