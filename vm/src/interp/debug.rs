//! Debug hooks.

use super::dispatch::{Act, CALL, HelperResult, NEXT, enter_func, helper, next, resume, tail};
use super::meta::{push_cont, sync_top};
use crate::bytecode::instr::Instr;
use crate::bytecode::ops::Op;
use crate::function::closure::Func;
use crate::state::{Vm, hookmask};
use crate::thread::frame::Cont;
use crate::value::Value;

helper!(
    #[cold]
    invalid = invalid_op
);

fn invalid_op(vm: &mut Vm, _a: usize, _d: usize) -> HelperResult {
    Err(vm.throw_here(b"invalid bytecode instruction"))
}

impl Vm {
    /// Parameters of the Lua function whose frame is the current one.
    fn frame_params(&self) -> usize {
        // SAFETY: every frame has its function two slots below its base.
        let f: Option<crate::cell::gc_ref::Gc<Func>> = unsafe { *self.base().sub(2) }.as_obj();
        let lua = f.and_then(|f| f.as_lua(&self.heap));
        lua.map_or(0, |f| f.get(&self.heap).proto.get(&self.heap).numparams as usize)
    }

    /// Is a hook function running on this coroutine? Then it cannot yield: the instruction waits for it.
    pub(crate) fn in_hook(&self, co: crate::cell::gc_ref::Gc<crate::thread::Thread>) -> bool {
        self.hook.active && self.hook.thread == co.addr()
    }

    /// Sets or removes (`mask` 0) the debug hook.
    pub fn set_hook(&mut self, func: Value, mask: u8, count: u32) {
        let on = mask != 0 && func.is::<Func>();
        self.hook.func = if on { func } else { Value::NIL };
        self.hook.mask = if on { mask } else { 0 };
        self.hook.count = count;
        self.hook.left = count;
        // A line is new when it is not that of the last instruction that left the handlers (made a closure, a table,
        // called a metamethod...): the line that makes the hook's closure is not, one that only sets it is.
        self.hook.last_pc = self.pc;
        self.hook.stage = 0;
        self.refresh_dispatch();
    }
}

impl Vm {
    /// The running hook is left.
    pub(super) fn leave_hook(&mut self) {
        self.hook.active = false;
        if self.hook.mask == 0 {
            // It has removed itself: no instruction is watched any more.
            self.refresh_dispatch();
        }
    }

    /// The instruction or function header at hand is dispatched once more, and hooks have seen this many of its events
    /// (3: all of an instruction, 1: the call of a header). While a hook runs, the count is that of the
    /// instruction which waits for it, and stays.
    pub(super) fn hooks_have_seen(&mut self, events: u8) {
        if self.hook.mask != 0 && !self.hook.active {
            self.hook.stage = events;
        }
    }
}

/// Answer of [`hook_step`]: the instruction at hand is to be executed.
pub(crate) const NO_EVENT: Act = Act::MAX;

/// Looks for an event in front of the instruction before `vm.pc`; [`NO_EVENT`] when there is none, else the act that
/// calls the hook, or goes on where the error was caught that there was no room for it. Afterwards the instruction is dispatched again, until all its events are through.
#[inline(never)]
pub(crate) unsafe extern "C" fn hook_step(vm: *mut Vm, d: usize) -> Act {
    // SAFETY: the handler holds no reference to the VM.
    let vm = unsafe { &mut *vm };
    if vm.hook.active {
        return NO_EVENT;
    }
    // SAFETY: `pc` points behind the instruction.
    let ins = Instr(unsafe { *vm.pc.sub(1) });
    let stage = std::mem::replace(&mut vm.hook.stage, 0);
    let r = if ins.op_byte() >= Op::FUNCF as u8 {
        if stage != 0 || vm.hook.mask & hookmask::CALL == 0 {
            return NO_EVENT;
        }
        call_event(vm, d - 1)
    } else {
        match event(vm, ins, stage) {
            Some((name, line)) => {
                sync_top(vm);
                let word = Cont::Hook as u64 | (vm.multres as u64 & COUNT_MASK) << MULTRES_AT;
                call_hook(vm, name, line, word)
            }
            None => return NO_EVENT,
        }
    };
    super::settle(vm, r)
}

/// A hook frame's word, above the kind of continuation: MULTRES, whether it belongs to a function header, then the
/// number of arguments, and how many of them were not given.
const MULTRES_AT: u32 = 8;
const AT_HEADER: u64 = 1 << 28;
const NARGS_AT: u32 = 29;
const MISSING_AT: u32 = 49;
/// Bits of a number in that word.
const COUNT_MASK: u64 = (1 << 20) - 1;

/// Goes on with the instruction a hook was called for.
pub(crate) fn hook_done(vm: &mut Vm, word: u64) -> HelperResult {
    vm.leave_hook();
    vm.multres = (word >> MULTRES_AT & COUNT_MASK) as u32;
    if word & AT_HEADER != 0 {
        let mut nargs = (word >> NARGS_AT & COUNT_MASK) as usize;
        let mut missing = (word >> MISSING_AT) as usize;
        // What the hook has set counts as given.
        // SAFETY: the arguments lie in the frame of the function that is entered.
        while missing > 0 && unsafe { *vm.base().add(nargs - 1) }.is_nil() {
            missing -= 1;
            nargs -= 1;
        }
        vm.call_nargs = nargs;
        return Ok(CALL);
    }
    vm.pc = vm.pc.wrapping_sub(1);
    Ok(NEXT)
}

/// A function is entered: its arguments are all that is in its frame.
fn call_event(vm: &mut Vm, nargs: usize) -> HelperResult {
    vm.hook.stage = 1;
    let top = vm.base().wrapping_add(nargs);
    vm.set_top_ptr(top);
    // Parameters without an argument are there, for the hook to see and to set.
    let params = vm.frame_params();
    let missing = params.saturating_sub(nargs);
    if missing > 0 {
        vm.ensure_slots(missing)?;
        for _ in 0..missing {
            vm.push(Value::NIL);
        }
    }
    let nargs = nargs + missing;
    let word = Cont::Hook as u64
        | (vm.multres as u64 & COUNT_MASK) << MULTRES_AT
        | AT_HEADER
        | (nargs as u64 & COUNT_MASK) << NARGS_AT
        | (missing as u64) << MISSING_AT;
    call_hook(vm, "call", None, word)
}

/// The next event of an instruction; `stage` of them have been looked at.
fn event(vm: &mut Vm, ins: Instr, stage: u8) -> Option<(&'static str, Option<u32>)> {
    let mask = vm.hook.mask;
    if stage < 1 && mask & hookmask::COUNT != 0 {
        vm.hook.left = vm.hook.left.saturating_sub(1);
        if vm.hook.left == 0 {
            vm.hook.left = vm.hook.count;
            vm.hook.stage = 1;
            return Some(("count", None));
        }
    }
    if stage < 2 && mask & hookmask::LINE != 0 {
        let pc = vm.pc;
        let f = vm.innermost(vm.cur)?;
        let pt = vm.frame_proto(f)?;
        let p = pt.get(&vm.heap);
        let index = |pc: *const u32| ((pc as usize).wrapping_sub(p.code as usize) / 4).wrapping_sub(1);
        let line = p.line_at(index(pc) as u32);
        let last = vm.hook.last_pc;
        let changed = pc <= last || index(last) >= p.ncode as usize || p.line_at(index(last) as u32) != line;
        vm.hook.last_pc = pc;
        if changed && let Some(line) = line {
            vm.hook.stage = 2;
            return Some(("line", Some(line)));
        }
    }
    if stage < 3 && mask & hookmask::RET != 0 && matches!(ins.op(), Op::RET | Op::RET0 | Op::RET1 | Op::RETM)
    {
        vm.hook.stage = 3;
        return Some(("return", None));
    }
    None
}

fn call_hook(vm: &mut Vm, name: &str, line: Option<u32>, word: u64) -> HelperResult {
    vm.hook.active = true;
    vm.hook.thread = vm.cur.addr();
    vm.hook.event_line = line.map_or(-1, |l| l as i32);
    let f = vm.hook.func;
    let name = Value::obj(vm.heap.str(name.as_bytes()));
    let line = line.map_or(Value::NIL, |l| Value::int(l as i32));
    // Values of a multi-value instruction lie above the frame.
    let extra = vm.multres as usize;
    if let Err(e) = vm.ensure_slots(extra + 8) {
        vm.leave_hook();
        vm.hook.stage = 0;
        return Err(e);
    }
    let top = vm.top().wrapping_add(extra);
    vm.set_top_ptr(top);
    push_cont(vm, word, f, &[name, line])
}
