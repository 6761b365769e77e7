//! Returns to frames that are not plain Lua calls.

use super::arith::cat_range;
use super::compare::branch;
use super::coroutine::finish;
use super::debug::hook_done;
use super::dispatch::{EXIT_DONE, HelperResult, NATIVE, NEXT, enter_func, helper, next, resume, tail};
use super::meta::{current_ins, move_values, set_reg};
use super::unwind::handled;
use crate::bytecode::instr::Instr;
use crate::state::Vm;
use crate::state::native::Entry;
use crate::thread::frame::{self, Cont, FrameType, LINK_CORO, PCALL_DELTA};
use crate::value::Value;

helper!(return_far = return_regs);
helper!(return_native = return_results);

/// `RET*`: `n` values from register `a` on.
fn return_regs(vm: &mut Vm, a: usize, n: usize) -> HelperResult {
    let base = vm.base();
    do_return(vm, base, base.wrapping_add(a), n)
}

/// A native's results.
fn return_results(vm: &mut Vm, _a: usize, _d: usize) -> HelperResult {
    let (base, from, n) = (vm.base(), vm.ret_from, vm.ret_count);
    do_return(vm, base, from, n)
}

/// Returns `n` values at `from` out of the frame at `base`, whatever called it.
pub(crate) fn do_return(vm: &mut Vm, base: *mut Value, from: *const Value, n: usize) -> HelperResult {
    let (mut base, mut from, mut n) = (base, from, n);
    loop {
        // SAFETY: frames are linked as `thread::frame` describes; results move down the stack, to slots that
        // were the call header and the frame.
        unsafe {
            let link = (*base.sub(1)).0;
            let to = base.sub(2);
            if frame::is_lua(link) {
                let pc = link as *const u32;
                let ins = Instr(*pc.sub(1));
                let wanted = ins.b() as usize;
                move_values(from, to, n);
                if wanted == 0 {
                    vm.multres = n as u32 + 1;
                } else {
                    for i in n..wanted - 1 {
                        *to.add(i) = Value::NIL;
                    }
                }
                vm.set_base(to.sub(ins.a() as usize));
                vm.pc = pc;
                return Ok(NEXT);
            }
            let delta = frame::delta(link);
            let prev = base.sub(delta);
            match frame::type_bits(link) {
                t if t == FrameType::Varg as u64 => base = prev,
                t if t == FrameType::Cont as u64 => {
                    let (word, pc) = ((*base.sub(4)).0, (*base.sub(3)).0 as *const u32);
                    let v = if n > 0 { *from } else { Value::NIL };
                    vm.set_base(prev);
                    vm.pc = pc;
                    return continue_instruction(vm, word, v);
                }
                t if t == FrameType::Pcall as u64 || t == FrameType::Xpcall as u64 => {
                    let native = t == FrameType::Pcall as u64 && delta != PCALL_DELTA;
                    if native {
                        return reenter(vm, base, prev, from, n);
                    }
                    std::ptr::copy(from, to.add(1), n);
                    *to = Value::TRUE;
                    (base, from, n) = (prev, to, n + 1);
                }
                t if t == FrameType::Native as u64 => return reenter(vm, base, prev, from, n),
                _ => {
                    if link != LINK_CORO {
                        vm.set_base(base);
                        vm.ret_from = from as *mut Value;
                        vm.ret_count = n;
                        return Ok(EXIT_DONE);
                    }
                    vm.set_base(base);
                    match finish(vm, from, n)? {
                        // The values lie in the resumer's frame now.
                        Some((b, f, m)) => (base, from, n) = (b, f, m),
                        None => return Ok(EXIT_DONE),
                    }
                }
            }
        }
    }
}

/// Results for a native that called: they lie where it began its call.
///
/// # Safety
/// `base` is the base of a frame it called, `prev` its own base, `from` points to `n` values.
unsafe fn reenter(
    vm: &mut Vm,
    base: *mut Value,
    prev: *mut Value,
    from: *const Value,
    n: usize,
) -> HelperResult {
    // SAFETY: the call header has four slots below `base`.
    unsafe {
        let label = (*base.sub(3)).0 as u32;
        let to = base.sub(4);
        move_values(from, to, n);
        vm.set_base(prev);
        vm.set_top_ptr(to.add(n));
        vm.native_nargs = (to as usize - prev as usize) / std::mem::size_of::<Value>();
        vm.entry = Entry::again(label, n);
    }
    Ok(NATIVE)
}

/// Goes on with an instruction whose metamethod has returned `v`.
fn continue_instruction(vm: &mut Vm, word: u64, v: Value) -> HelperResult {
    match Cont::from_word(word) {
        Some(Cont::Ra) => {
            let a = current_ins(vm).a() as usize;
            set_reg(vm, a, v);
            Ok(NEXT)
        }
        Some(Cont::CondTrue) => Ok(branch(vm, v.truthy())),
        Some(Cont::CondFalse) => Ok(branch(vm, !v.truthy())),
        Some(Cont::Cat) => {
            let at = (word >> 8) as usize;
            set_reg(vm, at, v);
            let first = current_ins(vm).b() as usize;
            cat_range(vm, first, at)
        }
        Some(Cont::ErrHandler) => handled(vm, v),
        Some(Cont::Hook) => hook_done(vm, word),
        Some(Cont::Nop) | None => Ok(NEXT),
    }
}
