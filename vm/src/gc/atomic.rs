//! The end of marking, in one go: what was written meanwhile, weak tables, finalizers, stacks.

use super::{World, finalize, mark, weak};
use crate::cell::gc_ref::Gc;
use crate::function::upvalue::Upval;
use crate::heap::{Heap, Phase};
use crate::thread::{SEEN, Thread};

/// Ends marking: afterwards exactly the marked objects are alive, and the sweep begins.
pub fn atomic<W: World>(w: &mut W) {
    super::mark_roots(w);
    drain(w);
    // Coroutines run without barriers: those that ran are looked at again. Looking at one can reach others, which append themselves.
    let mut i = 0;
    while i < w.heap().lists.threads.len() {
        while let Some(t) = w.heap().lists.threads.get(i).copied() {
            if !seen(w.heap(), t.cast()) {
                mark::thread(w.heap(), t.cast());
            }
            i += 1;
        }
        drain(w);
    }
    finalize::separate(w.heap(), false);
    finalize::mark_queue(w.heap());
    drain(w);
    weak::clear(w.heap());
    let protos = std::mem::take(&mut w.heap().lists.traced_protos);
    for p in protos {
        if w.heap().is_marked(p) {
            w.heap().lists.traced_protos.push(p);
        } else {
            w.proto_died(p.cast());
        }
    }
    let heap = w.heap();
    let mut threads = std::mem::take(&mut heap.lists.threads);
    for t in threads.iter().copied() {
        prune_upvals(heap, t.cast());
        if !seen(heap, t.cast()) {
            mark::clear_above_top(heap, t.cast());
        }
    }
    if !heap.gens.sticky {
        threads.clear();
    }
    heap.lists.threads = threads;
    heap.phase = Phase::SweepStrings;
    heap.begin_sweep();
}

/// Looks at everything gray, at what was written to, and at traces met, until nothing is left.
fn drain<W: World>(w: &mut W) {
    loop {
        let heap = w.heap();
        super::take_again(heap);
        mark::propagate(heap, isize::MAX);
        super::mark_traces(w);
        let heap = w.heap();
        if mark::is_drained(heap) && heap.lists.again.is_empty() {
            return;
        }
    }
}

/// Was the stack looked at since the thread ran last?
pub fn seen(heap: &Heap, t: Gc<Thread>) -> bool {
    t.get(heap).hdr.flags & SEEN != 0
}

/// Takes dead upvalues out of the list of open ones.
fn prune_upvals(heap: &mut Heap, t: Gc<Thread>) {
    let mut at = t.get(heap).open;
    let mut last: Option<Gc<Upval>> = None;
    while let Some(u) = at {
        let next = u.get(heap).next;
        if heap.is_marked(u.cast()) {
            last = Some(u);
        } else {
            match last {
                Some(l) => l.get_mut(heap).next = next,
                None => t.get_mut(heap).open = next,
            }
        }
        at = next;
    }
}
