//! Counters that ran out, the flag word, slow function entries, entering traces.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::coroutine::{Preempted, preempt};
use super::dispatch::{CALL, HelperResult, NEXT, enter_func, helper, next, resume, tail};
use crate::bytecode::instr::Instr;
use crate::bytecode::ops::Op;
use crate::error::messages as msg;
use crate::function::closure::LuaFunc;
use crate::index::TraceNo;
use crate::state::hooks::{EXIT_CALLED_BACK, HotKind, Limit, Verdict};
use crate::state::native::Raised;
use crate::state::profile::vmstate;
use crate::state::{HOT_SIZE, Vm, vmflags};
use crate::thread::frame::{self, FrameType};
use crate::value::Value;

helper!(
    #[cold]
    hot_loop = loop_ran_hot
);
helper!(
    #[cold]
    hot_call = call_ran_hot
);
helper!(
    #[cold]
    poll = poll_flags
);
helper!(
    #[cold]
    func_slow = enter_slowly
);
helper!(enter_trace = run_trace);
helper!(enter_trace_call = run_trace_at_header);

/// How often the clock is read: once in so many polls.
const DEADLINE_SKIP: u32 = 256;
/// Steps of a native's own loop that cost as much fuel as a back edge.
const STEPS_PER_FUEL: u64 = 16;

impl Vm {
    /// Sets the hot counter of the instruction at `pc` (a back edge counts two, a call one).
    pub fn set_hot(&mut self, pc: *const u32, count: u16) {
        self.hot[(pc as usize / 4 + 1) & (HOT_SIZE - 1)] = count;
    }

    /// Looks at the flag word: raises what a limit asks for, or answers whether the host wants the program to yield.
    pub(crate) fn poll(&mut self) -> Result<bool, Raised> {
        let f = self.flags.load(Relaxed);
        let mut yields = false;
        if f & vmflags::FUEL != 0 {
            if self.fuel == 0 {
                yields |= self.ask_host(Limit::Fuel)?;
            }
            self.fuel = self.fuel.saturating_sub(1);
        }
        if f & vmflags::DEADLINE != 0 {
            if self.deadline_skip > 0 {
                self.deadline_skip -= 1;
            } else if self.deadline.is_some_and(|d| std::time::Instant::now() >= d) {
                // The clock is read again at the next poll, so that no handler can swallow the error for good.
                yields |= self.ask_host(Limit::Deadline)?;
            } else {
                self.deadline_skip = DEADLINE_SKIP;
            }
        }
        if f & vmflags::PROFILE != 0 {
            // Compiled code has left for it; the sample is taken at the next instruction.
            self.set_flag(vmflags::PROFILE, false);
        }
        if f & vmflags::OVERRUN != 0 {
            return Err(self.throw_here(msg::CPU_LIMIT.as_bytes()));
        }
        if f & vmflags::INTERRUPT != 0 {
            self.set_flag(vmflags::INTERRUPT, false);
            return Err(self.throw_here(msg::INTERRUPTED.as_bytes()));
        }
        if f & vmflags::POKE != 0 {
            self.set_flag(vmflags::POKE, false);
            if let Some(mut f) = self.on_poke.take() {
                f(self);
                if self.on_poke.is_none() {
                    self.on_poke = Some(f);
                }
            }
        }
        Ok(yields)
    }

    /// What the host decides about a spent limit: whether the program is to yield. Without a host that cares, and
    /// where it says so, the limit raises its error.
    fn ask_host(&mut self, limit: Limit) -> Result<bool, Raised> {
        let verdict = match self.on_exhausted.take() {
            Some(mut ask) => {
                let v = ask(self, limit);
                if self.on_exhausted.is_none() {
                    self.on_exhausted = Some(ask);
                }
                v
            }
            None => Verdict::Raise,
        };
        match verdict {
            Verdict::GoOn => Ok(false),
            Verdict::Yield => Ok(true),
            Verdict::RaiseValue(v) => Err(self.throw(v)),
            Verdict::Raise => Err(self.throw_here(match limit {
                Limit::Fuel => msg::FUEL.as_bytes(),
                Limit::Deadline => msg::DEADLINE.as_bytes(),
            })),
        }
    }

    /// Whether a native that has made so many steps of its own may go on, or a limit wants to be heard.
    pub(crate) fn may_go_on(&self, steps: u64) -> bool {
        let f = self.flags.load(Relaxed);
        if f == 0 {
            return true;
        }
        let late = || self.deadline.is_some_and(|d| std::time::Instant::now() >= d);
        f & (vmflags::INTERRUPT | vmflags::OVERRUN) == 0
            && !(f & vmflags::DEADLINE != 0 && late())
            && !(f & vmflags::FUEL != 0 && steps / STEPS_PER_FUEL > self.fuel)
    }

    /// A native has made so many steps of its own: they cost fuel.
    pub(crate) fn charge_steps(&mut self, steps: u64) {
        if steps >= STEPS_PER_FUEL && self.flags.load(Relaxed) & vmflags::FUEL != 0 {
            self.fuel = self.fuel.saturating_sub(steps / STEPS_PER_FUEL);
        }
    }

    /// A native's own loop has come round `steps` times: now and then looks whether a limit wants to be heard, and
    /// raises its error.
    #[inline]
    pub(crate) fn mind_limits(&mut self, steps: u64) -> Result<(), Raised> {
        const EVERY: u64 = 1 << 16;
        if steps % EVERY == EVERY - 1 {
            self.charge_steps(EVERY);
            if !self.may_go_on(0) || self.fuel == 0 && self.fuel_left().is_some() {
                return self.steps_exhausted();
            }
        }
        Ok(())
    }

    /// A native was told by [`Vm::may_go_on`] to stop: raises the limit's error, unless the host lets it go on. A native
    /// cannot yield from its own loop: the host is asked again at the next back edge.
    pub(crate) fn steps_exhausted(&mut self) -> Result<(), Raised> {
        if self.flags.load(Relaxed) & vmflags::DEADLINE != 0 {
            self.deadline_skip = 0;
        } else if self.flags.load(Relaxed) & (vmflags::INTERRUPT | vmflags::OVERRUN) == 0 {
            self.fuel = 0;
        }
        self.poll().map(|_| ())
    }

    /// Sets or removes the wall-clock limit of everything this VM runs.
    pub fn set_deadline(&mut self, at: Option<std::time::Instant>) {
        self.deadline = at;
        self.deadline_skip = 0;
        self.set_flag(vmflags::DEADLINE, at.is_some());
    }

    /// Sets or removes the limit of back edges and calls.
    pub fn set_fuel(&mut self, fuel: Option<u64>) {
        self.fuel = fuel.unwrap_or(0);
        self.set_flag(vmflags::FUEL, fuel.is_some());
    }

    /// Back edges and calls left, if they are limited.
    pub fn fuel_left(&self) -> Option<u64> {
        if self.flags.load(Relaxed) & vmflags::FUEL != 0 { Some(self.fuel) } else { None }
    }

    /// Sets or clears a flag; the next back edge or function header sees it.
    pub fn set_flag(&mut self, flag: u32, on: bool) {
        let (before, now) = if on {
            let before = self.flags.fetch_or(flag, SeqCst);
            (before, before | flag)
        } else {
            let before = self.flags.fetch_and(!flag, SeqCst);
            (before, before & !flag)
        };
        self.sync_stack_limit();
        if (before == 0) != (now == 0) {
            self.sync_back_edges();
        }
    }
}

fn loop_ran_hot(vm: &mut Vm, _a: usize, _d: usize) -> HelperResult {
    let pc = vm.pc.wrapping_sub(1);
    vm.set_hot(pc, u16::MAX);
    if vm.poll()? && vm.can_preempt() {
        vm.pc = pc;
        return Ok(preempt(vm, Preempted::SeenByHooks));
    }
    let base = vm.base();
    // A recording could not follow the calls of a hook.
    if vm.hook.mask == 0
        && let Some(mut jit) = vm.jit.take()
    {
        jit.hot(vm, pc, base, HotKind::Loop);
        vm.jit = Some(jit);
    }
    // The instruction is executed again, in whatever form it has now; hooks have seen it.
    vm.hooks_have_seen(3);
    vm.pc = pc;
    Ok(NEXT)
}

fn call_ran_hot(vm: &mut Vm, _a: usize, d: usize) -> HelperResult {
    let pc = vm.pc.wrapping_sub(1);
    vm.set_hot(pc, u16::MAX);
    let base = vm.base();
    vm.call_nargs = d - 1;
    vm.set_top_ptr(base.wrapping_add(d - 1));
    if vm.hook.mask == 0
        && let Some(mut jit) = vm.jit.take()
    {
        jit.hot(vm, pc, base, HotKind::Call);
        vm.jit = Some(jit);
    }
    vm.hooks_have_seen(1);
    Ok(CALL)
}

fn poll_flags(vm: &mut Vm, _a: usize, _d: usize) -> HelperResult {
    if vm.poll()? && vm.can_preempt() {
        return Ok(preempt(vm, Preempted::Next));
    }
    Ok(NEXT)
}

/// A function header found no room on the stack, or has to look at the flags.
fn enter_slowly(vm: &mut Vm, a: usize, d: usize) -> HelperResult {
    let header = Instr(unsafe_header(vm));
    let nargs = d - 1;
    let base = vm.base();
    vm.set_top_ptr(base.wrapping_add(nargs));
    if vm.flags.load(Relaxed) != 0 && vm.poll()? && vm.can_preempt() {
        return Ok(preempt(vm, Preempted::AtHeader));
    }
    let op = header.op();
    if op == Op::FUNCC {
        vm.ensure_slots(1)?;
        vm.call_nargs = nargs;
        vm.hooks_have_seen(1);
        return Ok(CALL);
    }
    let vararg = matches!(op, Op::FUNCV | Op::IFUNCV | Op::JFUNCV);
    vm.ensure_slots(a + if vararg { 2 } else { 0 })?;
    let base = vm.base();
    // SAFETY: there is room for the frame; see `handlers::func`.
    unsafe {
        let fv = *base.sub(2);
        let f = super::dispatch::func_ptr(fv) as *const LuaFunc;
        let params = (*(*f).proto.as_ptr()).numparams as usize;
        if vararg {
            let nb = base.add(nargs + 2);
            *nb.sub(2) = fv;
            *nb.sub(1) = frame::raw(frame::link(nargs + 2, FrameType::Varg));
            for i in 0..params {
                *nb.add(i) =
                    if i < nargs { std::mem::replace(&mut *base.add(i), Value::NIL) } else { Value::NIL };
            }
            vm.set_base(nb);
        } else {
            for i in nargs..params {
                *base.add(i) = Value::NIL;
            }
        }
    }
    Ok(NEXT)
}

/// The header word of the function being entered.
fn unsafe_header(vm: &Vm) -> u32 {
    // SAFETY: `pc` was set behind the header by the handler.
    unsafe { *vm.pc.sub(1) }
}

/// Runs trace `d`. When it has no code any more, the instruction it replaced is executed.
fn run_trace(vm: &mut Vm, _a: usize, d: usize) -> HelperResult {
    let no = TraceNo::new(d as u32);
    let entry = match vm.traces.get(no) {
        Some(e) if e.entry != 0 => e.entry,
        _ => return Err(vm.throw_plain(b"internal error: a J instruction without a trace")),
    };
    let base = vm.base();
    // SAFETY: the table holds entry points of this signature only (see `TraceEntry`).
    let left = unsafe {
        let f: unsafe extern "C" fn(*mut Vm, *mut Value) -> u64 = std::mem::transmute(entry);
        let before = vm.profile.enter(vmstate::NATIVE);
        let left = f(vm, base);
        vm.profile.leave(before);
        left
    };
    leave_trace(vm, left)
}

/// Goes on where a trace was left.
pub(crate) fn leave_trace(vm: &mut Vm, left: u64) -> HelperResult {
    let Some(mut jit) = vm.jit.take() else {
        return Err(vm.throw_plain(b"internal error: a trace without a JIT compiler"));
    };
    let at = jit.exit(vm, TraceNo::new((left >> 32) as u32), left as u32);
    vm.jit = Some(jit);
    vm.pc = at.pc;
    vm.set_base(at.base);
    if left as u32 == EXIT_CALLED_BACK {
        return Ok(NEXT);
    }
    // Traces leave for what is asked for at exits: limits, interrupts, collector steps.
    let yields = vm.flags.load(Relaxed) != 0 && vm.poll()?;
    vm.gc_check()?;
    if yields && vm.can_preempt() {
        return Ok(preempt(vm, Preempted::Next));
    }
    Ok(NEXT)
}

/// `JFUNCF`, `JFUNCV`: the frame is made ready first.
fn run_trace_at_header(vm: &mut Vm, a: usize, d: usize) -> HelperResult {
    let header = Instr(unsafe_header(vm));
    match enter_slowly(vm, a, d)? {
        NEXT => run_trace(vm, a, header.d() as usize),
        left => Ok(left),
    }
}
