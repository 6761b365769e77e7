//! What comes between two instructions: samples for a profiler (see `state::profile`), and what the compiler tells those
//! who listen. Both run on a coroutine of their own.

use std::sync::atomic::Ordering::Relaxed;

use super::dispatch::{op, tail};
use super::meta::sync_top;
use crate::bytecode::instr::Instr;
use crate::bytecode::ops::Op;
use crate::cell::gc_ref::Gc;
use crate::state::hooks::TraceEvent;
use crate::state::profile::{OnSample, vmstate};
use crate::state::{Handler, Vm, vmflags};
use crate::thread::Thread;
use crate::thread::frame::{LINK_CORO, raw};
use crate::value::Value;

op! {
    /// Every op after a tick.
    SAMPLE |pc, base, k, vm, a, d| {
        (*vm).pc = pc;
        (*(*vm).cur.as_ptr()).base = base;
        sample_step(vm, d);
        // The instruction itself: not from the active table, which may be that of the next tick already.
        let base = (*(*vm).cur.as_ptr()).base;
        let op = *(pc.sub(1) as *const u8) as usize;
        let f = (*vm).handler_of(op);
        tail!(f, pc, base, k, vm, a, d)
    }
}

/// Takes the sample. `d` is the operand of the instruction at hand.
#[inline(never)]
unsafe extern "C" fn sample_step(vm: *mut Vm, d: usize) {
    // SAFETY: the handler holds no reference to the VM.
    let vm = unsafe { &mut *vm };
    let events = std::mem::take(&mut vm.events.queue);
    vm.refresh_dispatch();
    vm.set_flag(vmflags::PROFILE, false);
    let ticks = vm.profile.ticks.swap(0, Relaxed);
    // Neither comes in the middle of the other: there is one coroutine for both.
    let free = !vm.profile.busy && !vm.events.telling;
    let on_sample = vm.profile.on_sample.filter(|_| ticks > 0 && free);
    if events.is_empty() && on_sample.is_none() {
        return;
    }
    // SAFETY: `pc` points behind the instruction.
    let ins = Instr(unsafe { *vm.pc.sub(1) });
    if ins.op_byte() >= Op::FUNCF as u8 {
        // The frame of a function that is entered has its arguments only.
        let top = vm.base().wrapping_add(d - 1);
        vm.set_top_ptr(top);
    } else {
        sync_top(vm);
        // Values of a multi-value instruction lie above the frame.
        let extra = vm.multres as usize;
        if vm.ensure_slots(extra).is_err() {
            let _ = vm.take_error();
            return;
        }
        let top = vm.top().wrapping_add(extra);
        vm.set_top_ptr(top);
    }
    vm.tell_all(events);
    if let Some(on_sample) = on_sample {
        vm.take_sample(on_sample, ticks);
    }
}

impl Vm {
    /// The compiler has done something: those who listen are told before the next instruction.
    pub fn tell(&mut self, event: TraceEvent) {
        // What a listener or a profiler causes is not told.
        if !self.events.telling && !self.profile.busy {
            self.events.queue.push(event);
            self.refresh_dispatch();
        }
    }

    /// Is a listener being told?
    pub fn is_telling(&self) -> bool {
        self.events.telling
    }

    /// Tells events; a recording waits meanwhile.
    fn tell_all(&mut self, events: Vec<TraceEvent>) {
        let Some(deliver) = self.events.deliver.filter(|_| !events.is_empty()) else { return };
        let recording = std::mem::replace(&mut self.recording, false);
        self.events.telling = true;
        // Out of reach of the collector from here on, but for what is rooted.
        let roots: Vec<_> =
            events.iter().flat_map(|e| [e.func(), e.named()]).map(|v| self.heap.roots.add(v)).collect();
        self.refresh_dispatch();
        self.aside(|vm, _| events.into_iter().for_each(|e| deliver(vm, e)));
        for r in roots {
            self.heap.roots.remove(r);
        }
        self.abort_recording();
        self.events.telling = false;
        self.recording = recording;
        self.refresh_dispatch();
    }

    /// Calls `on_sample` with the running coroutine.
    fn take_sample(&mut self, on_sample: OnSample, ticks: u32) {
        self.abort_recording();
        self.profile.busy = true;
        let state = self.profile.tick_state.load(Relaxed);
        self.aside(|vm, at| on_sample(vm, at, ticks, state));
        self.profile.busy = false;
    }

    /// Runs `f` on a coroutine of its own, with the one that is left; its top is above all it needs.
    fn aside(&mut self, f: impl FnOnce(&mut Vm, Gc<Thread>)) {
        let th = match self.profile.thread {
            Some(t) => t,
            None => {
                let t = self.new_coroutine(Value::NIL);
                // SAFETY: a fresh stack has its first two slots.
                unsafe { *t.get_mut(&mut self.heap).stack.add(1) = raw(LINK_CORO) };
                self.profile.thread = Some(t);
                t
            }
        };
        let pc = self.pc;
        let at = self.cur;
        at.get_mut(&mut self.heap).saved_pc = pc;
        let saved = self.save();
        self.switch_to(th);
        f(self, at);
        self.restore(&saved);
    }

    /// Begins or ends profiling: ticks come through [`crate::state::interrupt::Interrupt`], with what this returns.
    pub fn set_sampler(&mut self, on_sample: Option<OnSample>) -> Handler {
        self.profile.on_sample = on_sample;
        self.profile.ticks.store(0, Relaxed);
        self.profile.state.store(vmstate::INTERPRETED, Relaxed);
        self.refresh_dispatch();
        SAMPLE
    }
}
