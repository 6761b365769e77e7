//! The collector: incremental, non-moving, tri-colour. The only code that frees; runs at safepoints only.
//!
//! ```text
//!   Pause --begin--> Mark --atomic--> SweepStrings --> Sweep --> Pause
//! ```
//! A cycle begins when the heap has grown enough. Marking steps alternate with the program, whose
//! stores into black objects are noted by the barrier; noted objects are looked at again before the
//! atomic step, so that little is left for it. New objects are white and are found by marking as any
//! other. After the atomic step whatever is unmarked is dead.
//!
//! In a heap that is not small, cycles have generations: the marks of a cycle may stay for the next one, which then finds
//! old objects marked and looks only at new ones ([`crate::heap::Generations`]; `pace` says when that pays).

mod atomic;
pub mod check;
mod finalize;
mod mark;
mod pace;
mod sweep;
mod weak;

use crate::cell::gc_ref::Gc;
use crate::function::proto::Proto;
use crate::heap::accounting::OutOfMemory;
use crate::heap::zeal::Zeal;
use crate::heap::{Heap, Phase, arena};
use crate::index::TraceNo;
use crate::state::Vm;
use crate::thread::Thread;
use crate::value::Value;

/// What the collector needs to know of the machine around the heap.
pub trait World {
    /// The heap.
    fn heap(&mut self) -> &mut Heap;
    /// The running coroutine.
    fn running(&mut self) -> Option<Gc<Thread>>;
    /// Appends all values the machine holds outside the heap.
    fn roots(&mut self, out: &mut Vec<Value>);
    /// Appends what a trace refers to.
    fn trace_refs(&mut self, no: TraceNo, out: &mut Vec<Value>);
    /// The finalizer of a dead C data object, which it loses.
    fn cdata_finalizer(&mut self, cd: Value) -> Option<Value>;
    /// A prototype with traces is dead; its memory is still intact.
    fn proto_died(&mut self, proto: Gc<Proto>);
    /// A cycle begins: memory kept for later that was not used since the last one is given back.
    fn release_unused(&mut self) {}
}

/// One step of the collector, when it is due (or asked for). `Err`: the heap is over its limit even
/// after a full collection; the caller raises `not enough memory`.
///
/// Finalizers are only queued: see [`next_finalizer`].
pub fn step(vm: &mut Vm) -> Result<(), OutOfMemory> {
    step_world(vm)
}

/// A whole cycle from a fresh start: everything unreachable now is freed when it returns.
pub fn full(vm: &mut Vm) {
    full_world(vm)
}

/// The next object whose finalizer is due, and that finalizer; both must be rooted by the caller before
/// the next safepoint.
pub fn next_finalizer(vm: &mut Vm) -> Option<(Value, Value)> {
    finalize::next(vm)
}

/// Queues every object with a finalizer, whether alive or not: the end of a VM.
pub fn queue_all_finalizers(vm: &mut Vm) {
    ensure_names(&mut vm.heap);
    finalize::separate(&mut vm.heap, true);
}

/// Work that machine code may ask for: marking and sweeping slices. Returns whether something is due
/// that must not happen on a trace (beginning or ending to mark): then it leaves, and calls [`step`].
pub fn step_on_trace(vm: &mut Vm) -> bool {
    note_running(vm);
    let heap = &mut vm.heap;
    if heap.zeal != Zeal::Off || heap.over_limit() {
        return true;
    }
    match heap.phase {
        Phase::Pause => return true,
        Phase::Mark => {
            if mark::is_drained(heap) && heap.lists.again.is_empty() {
                return true;
            }
            let left = mark::propagate(heap, pace::budget(heap));
            if left > 0 {
                let heap = &mut vm.heap;
                take_again(heap);
                mark::propagate(heap, left);
            }
            mark_traces(vm);
            pace::step_ended(&mut vm.heap);
        }
        Phase::SweepStrings | Phase::Sweep => sweep_step(heap),
    }
    false
}

/// Switches automatic collection off or on; the memory limit holds all the same.
pub fn set_stopped(vm: &mut Vm, stopped: bool) {
    pace::set_stopped(&mut vm.heap, stopped);
}

/// `collectgarbage("step", n)`: works for about `kbytes` of allocation (at least one step); returns whether a
/// cycle ended.
pub fn step_by(vm: &mut Vm, kbytes: usize) -> bool {
    note_running(vm);
    let mut cycles = vm.heap.acct.cycles;
    for _ in 0..kbytes.max(1) {
        // After the end of a cycle that was asked for, everything that was dead at its beginning is gone.
        vm.heap.gens.force_major |= vm.heap.phase == Phase::Pause || vm.heap.gens.minor;
        unit_step(vm);
        if vm.heap.acct.cycles != cycles {
            if !vm.heap.gens.minor {
                return true;
            }
            cycles = vm.heap.acct.cycles;
        }
    }
    false
}

/// The work that one kilobyte of allocation stands for.
fn unit_step(vm: &mut Vm) {
    let work = 1024 * vm.heap.acct.stepmul_percent.max(100) as isize / 100;
    match vm.heap.phase {
        Phase::Mark if !mark::is_drained(&vm.heap) => {
            mark::propagate(&mut vm.heap, work);
            mark_traces(vm);
        }
        Phase::SweepStrings => {
            if vm.heap.intern_sweep(64) {
                vm.heap.phase = Phase::Sweep;
            }
        }
        // Few blocks at a time; the last step of the phase is the ordinary one.
        Phase::Sweep => {
            if vm.heap.sweep_blocks(2) {
                advance(vm);
            }
        }
        _ => advance(vm),
    }
}

/// As [`step`], for any world.
pub fn step_world<W: World>(w: &mut W) -> Result<(), OutOfMemory> {
    note_running(w);
    if w.heap().zeal == Zeal::Collect {
        // Every time while the heap is small; a test that makes it large should still end.
        let heap = w.heap();
        heap.lists.small_steps = heap.lists.small_steps.wrapping_add(1);
        let n = heap.lists.small_steps;
        if n.is_multiple_of(1 + (heap.acct.live >> 16) as u32) {
            if heap.phase == Phase::Pause && !n.is_multiple_of(8) {
                whole_cycle(w);
            } else {
                full_world(w);
            }
        }
    } else if w.heap().over_limit() {
        full_world(w);
        // Everything dead is gone now: what is left is too much.
        if w.heap().over_limit() {
            return Err(OutOfMemory);
        }
    } else if w.heap().zeal == Zeal::Steps {
        small_step(w);
    } else if w.heap().acct.stopped {
        pace::step_ended(w.heap());
    } else {
        advance(w);
        // A native that made much at once (a loaded chunk, a decoded document) left as many steps undone. Some of them
        // are made up for here, or loops over such natives, which are nearly all the safepoints there are, would let
        // garbage pile up.
        for _ in 0..CATCH_UP_STEPS {
            if w.heap().acct.credit >= -CATCH_UP_FROM {
                break;
            }
            advance(w);
        }
    }
    Ok(())
}

/// From so many bytes behind, a step is followed by more.
const CATCH_UP_FROM: isize = 512 * 1024;
/// ... by so many at most.
const CATCH_UP_STEPS: usize = 8;

/// A whole collection that freed more than this has the system's allocator give memory back.
const RELEASE_FROM: usize = 16 << 20;

/// As [`full`], for any world.
pub fn full_world<W: World>(w: &mut W) {
    note_running(w);
    let before = w.heap().acct.used;
    // What a running cycle has marked may be dead by now: it is brought to its end first.
    if w.heap().phase == Phase::Mark {
        atomic::atomic(w);
    }
    finish_sweep(w.heap());
    w.heap().gens.force_major = true;
    whole_cycle(w);
    if w.heap().zeal == Zeal::Off {
        sweep::release(w.heap(), true);
        if before.saturating_sub(w.heap().acct.used) > RELEASE_FROM {
            arena::release_freed();
        }
    }
}

/// A cycle without steps, from one pause to the next.
fn whole_cycle<W: World>(w: &mut W) {
    begin(w);
    atomic::atomic(w);
    finish_sweep(w.heap());
}

fn finish_sweep(heap: &mut Heap) {
    while heap.phase != Phase::Pause {
        if sweep::step(heap) {
            pace::cycle_ended(heap);
        }
    }
}

/// Rounds of looking again at what was written to, before the atomic step takes the rest.
const AGAIN_ROUNDS: u32 = 30;
/// So few objects written to are left to the atomic step.
const AGAIN_FEW: usize = 512;

/// Moves the cycle on by one step.
fn advance<W: World>(w: &mut W) {
    match w.heap().phase {
        Phase::Pause => {
            begin(w);
            pace::step_ended(w.heap());
        }
        Phase::Mark => {
            let heap = w.heap();
            let left = mark::propagate(heap, pace::budget(heap));
            if left > 0 {
                mark_traces(w);
                let heap = w.heap();
                if heap.lists.again.len() > AGAIN_FEW
                    && heap.lists.rounds < AGAIN_ROUNDS * pace::parts(heap) as u32
                {
                    heap.lists.rounds += 1;
                    take_again(heap);
                    mark::propagate(heap, left);
                } else if mark::is_drained(heap) {
                    atomic::atomic(w);
                }
            }
            pace::step_ended(w.heap());
        }
        Phase::SweepStrings | Phase::Sweep => sweep_step(w.heap()),
    }
}

/// A very small step, so that the program gets many chances to write between two of them; and now and then
/// the verifier.
///
/// # Panics
/// When the verifier finds a breach: this is a stress mode.
fn small_step<W: World>(w: &mut W) {
    let heap = w.heap();
    heap.lists.small_steps = heap.lists.small_steps.wrapping_add(1);
    let n = heap.lists.small_steps;
    match heap.phase {
        Phase::Mark if !mark::is_drained(heap) => {
            mark::propagate(heap, 200 + (n % 7 * 300) as isize);
            mark_traces(w);
        }
        Phase::SweepStrings => {
            if heap.intern_sweep(64) {
                heap.phase = Phase::Sweep;
            }
        }
        Phase::Sweep if !n.is_multiple_of(4) => {
            heap.sweep_blocks(2);
        }
        _ => advance(w),
    }
    if n.is_multiple_of(31 + (w.heap().acct.live >> 13) as u32)
        && let Err(e) = check::check_world(w)
    {
        panic!("heap check in phase {:?}: {e}", w.heap().phase);
    }
}

/// What was written to is gray again.
fn take_again(heap: &mut Heap) {
    let l = &mut heap.lists;
    if l.gray.is_empty() {
        std::mem::swap(&mut l.gray, &mut l.again);
    } else {
        l.gray.append(&mut l.again);
    }
}

fn sweep_step(heap: &mut Heap) {
    if sweep::step(heap) {
        pace::cycle_ended(heap);
    } else {
        pace::step_ended(heap);
    }
}

fn note_running<W: World>(w: &mut W) {
    let t = w.running().map(Gc::cast);
    w.heap().lists.running = t;
}

fn ensure_names(heap: &mut Heap) {
    if heap.gc_names.is_none() {
        heap.gc_names = Some([heap.str_intern(b"__mode").cast(), heap.str_intern(b"__gc").cast()]);
    }
}

/// Begins a cycle.
fn begin<W: World>(w: &mut W) {
    w.release_unused();
    let heap = w.heap();
    ensure_names(heap);
    pace::cycle_begins(heap);
    heap.begin_mark();
    let minor = heap.gens.minor;
    let l = &mut heap.lists;
    l.gray.clear();
    l.sliced.clear();
    l.weak.clear();
    l.traced.clear();
    l.rounds = 0;
    if !minor {
        l.again.clear();
        l.threads.clear();
    }
    heap.phase = Phase::Mark;
    if minor {
        old_ones(heap);
    }
    mark_roots(w);
}

/// What a minor cycle begins with beside the roots: old objects that were written to, or that are written to without a
/// barrier.
fn old_ones(heap: &mut Heap) {
    take_again(heap);
    let threads = std::mem::take(&mut heap.lists.threads);
    for t in threads {
        if atomic::seen(heap, t.cast()) {
            // It has not run since its stack was looked at.
            heap.lists.threads.push(t);
        } else {
            heap.lists.gray.push(t);
        }
    }
    // A trace may refer to what is younger than its prototype.
    for i in 0..heap.lists.traced_protos.len() {
        let p = heap.lists.traced_protos[i];
        if heap.is_marked(p) {
            heap.lists.gray.push(p);
        }
    }
}

fn mark_roots<W: World>(w: &mut W) {
    let mut roots = Vec::new();
    w.roots(&mut roots);
    let heap = w.heap();
    for v in roots {
        mark::mark_value(heap, v);
    }
    for name in heap.gc_names.into_iter().flatten() {
        mark::mark(heap, name);
    }
    for i in 0..heap.roots.values().len() {
        let v = heap.roots.values()[i];
        mark::mark_value(heap, v);
    }
    finalize::mark_queue(heap);
}

fn mark_traces<W: World>(w: &mut W) {
    while let Some(no) = w.heap().lists.traced.pop() {
        let mut refs = Vec::new();
        w.trace_refs(no, &mut refs);
        for v in refs {
            mark::mark_value(w.heap(), v);
        }
    }
}

impl World for Vm {
    fn heap(&mut self) -> &mut Heap {
        &mut self.heap
    }

    fn release_unused(&mut self) {
        self.workspace.release_unused();
    }

    fn running(&mut self) -> Option<Gc<Thread>> {
        Some(self.cur)
    }

    fn roots(&mut self, out: &mut Vec<Value>) {
        out.extend([Value::obj(self.main), Value::obj(self.cur)]);
        out.extend(self.finalizer_thread.map(Value::obj));
        out.extend(self.profile.thread.map(Value::obj));
        out.extend(self.events.queue.iter().flat_map(|e| [e.func(), e.named()]));
        out.extend([Value::obj(self.registry), Value::obj(self.globals)]);
        out.extend(self.base_meta.iter().flatten().map(|t| Value::obj(*t)));
        out.extend(self.mm_names.iter().map(|s| Value::obj(*s)));
        out.extend([self.err, self.tmp, self.next_func, self.hook.func]);
        out.extend(self.joined.map(|j| j.concat));
        if let Some(jit) = &mut self.jit {
            jit.mark_pending(&mut |v| out.push(v));
        }
        if let Some(cdata) = &mut self.cdata {
            cdata.mark_roots(&mut |v| out.push(v));
            self.cdata_shapes.forget_names();
        }
    }

    fn trace_refs(&mut self, no: TraceNo, out: &mut Vec<Value>) {
        if let Some(jit) = &mut self.jit {
            jit.mark_trace(no, &mut |v| out.push(v));
        }
    }

    fn cdata_finalizer(&mut self, cd: Value) -> Option<Value> {
        self.cdata.as_mut()?.finalizer(cd)
    }

    fn proto_died(&mut self, proto: Gc<Proto>) {
        if let Some(jit) = &mut self.jit {
            jit.proto_freed(proto);
        }
    }
}

#[cfg(test)]
mod program_tests;
#[cfg(test)]
mod tests;
