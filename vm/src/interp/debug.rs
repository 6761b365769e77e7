//! Debug hooks.

use super::dispatch::{Act, HelperResult, NEXT, enter_func, helper, next, resume, tail};
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
    /// Sets or removes (`mask` 0) the debug hook.
    pub fn set_hook(&mut self, func: Value, mask: u8, count: u32) {
        let on = mask != 0 && func.is::<Func>();
        self.hook.func = if on { func } else { Value::NIL };
        self.hook.mask = if on { mask } else { 0 };
        self.hook.count = count;
        self.hook.left = count;
        self.hook.last_pc = std::ptr::null();
        self.refresh_dispatch();
    }
}

/// Looks for an event in front of the instruction before `vm.pc`; 0 when there is none, else the act that calls the
/// hook.
#[inline(never)]
pub(crate) unsafe extern "C" fn hook_step(vm: *mut Vm, d: usize) -> Act {
    // SAFETY: the handler holds no reference to the VM.
    let vm = unsafe { &mut *vm };
    // SAFETY: `pc` points behind the instruction.
    let ins = Instr(unsafe { *vm.pc.sub(1) });
    if ins.op_byte() >= Op::FUNCF as u8 {
        // A header: its arguments are not in the frame yet. The event comes with the first instruction.
        vm.call_nargs = d.wrapping_sub(1);
        vm.hook.last_pc = std::ptr::null();
        vm.hook.entered = ins.op_byte() < Op::FUNCC as u8;
        return 0;
    }
    if vm.hook.active {
        return 0;
    }
    let r = match event(vm, ins) {
        Some((name, line)) => call_hook(vm, name, line),
        None => return 0,
    };
    super::settle(vm, r)
}

fn event(vm: &mut Vm, ins: Instr) -> Option<(&'static str, Option<u32>)> {
    let mask = vm.hook.mask;
    if std::mem::take(&mut vm.hook.entered) && mask & hookmask::CALL != 0 {
        // The same instruction is looked at again for the other events.
        return Some(("call", None));
    }
    if mask & hookmask::COUNT != 0 {
        vm.hook.left = vm.hook.left.saturating_sub(1);
        if vm.hook.left == 0 {
            vm.hook.left = vm.hook.count;
            return Some(("count", None));
        }
    }
    if mask & hookmask::LINE != 0 {
        let pc = vm.pc;
        let f = vm.innermost(vm.cur)?;
        let pt = vm.frame_proto(f)?;
        let p = pt.get(&vm.heap);
        let at = |pc: *const u32| (pc as usize).wrapping_sub(p.code as usize) / 4;
        let line = p.line_at(at(pc) as u32 - 1);
        let last = vm.hook.last_pc;
        let changed = last.is_null()
            || pc <= last
            || at(last) >= p.ncode as usize + 1
            || p.line_at((at(last) as u32).wrapping_sub(1)) != line;
        vm.hook.last_pc = pc;
        if changed && let Some(line) = line {
            return Some(("line", Some(line)));
        }
    }
    if mask & hookmask::RET != 0
        && matches!(ins.op(), Op::RET | Op::RET0 | Op::RET1 | Op::RETM | Op::CALLT | Op::CALLMT)
    {
        return Some(("return", None));
    }
    None
}

fn call_hook(vm: &mut Vm, name: &str, line: Option<u32>) -> HelperResult {
    vm.hook.active = true;
    let f = vm.hook.func;
    let word = Cont::Hook as u64 | (vm.multres as u64) << 8;
    let name = Value::obj(vm.heap.str(name.as_bytes()));
    let line = line.map_or(Value::NIL, |l| Value::int(l as i32));
    sync_top(vm);
    // Values of a multi-value instruction lie above the frame.
    if vm.multres > 1 {
        let top = vm.top().wrapping_add(vm.multres as usize);
        if vm.ensure_slots(vm.multres as usize + 8).is_ok() {
            let t = vm.cur.get_mut(&mut vm.heap);
            let _ = top;
            t.top = t.top.wrapping_add(vm.multres as usize);
        }
    }
    push_cont(vm, word, f, &[name, line])
}

#[allow(unused_imports)]
use NEXT as _;
