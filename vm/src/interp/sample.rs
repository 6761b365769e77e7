//! Samples for a profiler: what happens at the instruction after a tick (see `state::profile`).

use std::sync::atomic::Ordering::Relaxed;

use super::dispatch::{op, tail};
use super::meta::sync_top;
use crate::bytecode::instr::Instr;
use crate::bytecode::ops::Op;
use crate::state::profile::{OnSample, vmstate};
use crate::state::{Handler, Vm, vmflags};
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
    vm.refresh_dispatch();
    vm.set_flag(vmflags::PROFILE, false);
    let ticks = vm.profile.ticks.swap(0, Relaxed);
    if ticks == 0 || vm.profile.busy {
        return;
    }
    let Some(on_sample) = vm.profile.on_sample else { return };
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
    vm.take_sample(on_sample, ticks);
}

impl Vm {
    /// Calls `on_sample` with the running coroutine, on a coroutine of its own.
    fn take_sample(&mut self, on_sample: OnSample, ticks: u32) {
        self.abort_recording();
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
        self.profile.busy = true;
        self.switch_to(th);
        let state = self.profile.tick_state.load(Relaxed);
        on_sample(self, at, ticks, state);
        self.restore(&saved);
        self.profile.busy = false;
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
