//! What helpers share: operands of the current instruction, calls of metamethods.

use super::dispatch::{CALL, HelperResult};
use crate::bytecode::instr::Instr;
use crate::bytecode::ops::Mm;
use crate::cell::gc_ref::Gc;
use crate::error::messages as msg;
use crate::function::closure::Func;
use crate::function::proto::Proto;
use crate::state::Vm;
use crate::state::native::Raised;
use crate::thread::frame::{self, CONT_SLOTS, FrameType};
use crate::value::Value;

/// The instruction a helper was called from.
#[inline(always)]
pub(crate) fn current_ins(vm: &Vm) -> Instr {
    // SAFETY: `pc` points behind the current instruction.
    Instr(unsafe { *vm.pc.sub(1) })
}

/// A register of the current frame.
#[inline(always)]
pub(crate) fn reg(vm: &Vm, i: usize) -> Value {
    // SAFETY: operands lie inside the frame, see `op!`.
    unsafe { *vm.base().add(i) }
}

/// Writes a register of the current frame.
#[inline(always)]
pub(crate) fn set_reg(vm: &mut Vm, i: usize, v: Value) {
    // SAFETY: operands lie inside the frame, see `op!`.
    unsafe { *vm.base().add(i) = v }
}

/// Prototype of the current frame, which is one of a Lua function.
#[inline(always)]
pub(crate) fn current_proto(vm: &Vm) -> Gc<Proto> {
    // SAFETY: helpers of instructions run in frames of Lua functions.
    unsafe {
        let f = super::dispatch::func_ptr(*vm.base().sub(2)) as *const crate::function::closure::LuaFunc;
        (*f).proto
    }
}

/// A gc constant of the current function.
#[inline(always)]
pub(crate) fn kstr(vm: &Vm, i: usize) -> Value {
    // SAFETY: operands lie inside the constants, see `op!`.
    unsafe { *current_proto(vm).get(&vm.heap).k.sub(1 + i) }
}

/// A number constant of the current function.
#[inline(always)]
pub(crate) fn knum(vm: &Vm, i: usize) -> Value {
    // SAFETY: operands lie inside the constants, see `op!`.
    unsafe { *current_proto(vm).get(&vm.heap).k.add(i) }
}

/// Sets `top` above the registers of the current frame when it belongs to a Lua function.
#[inline(always)]
pub(crate) fn sync_top(vm: &mut Vm) {
    let base = vm.base();
    // SAFETY: every frame has its function two slots below its base.
    let f: Option<Gc<Func>> = unsafe { *base.sub(2) }.as_obj();
    if let Some(lf) = f.and_then(|f| f.as_lua(&vm.heap)) {
        let size = lf.get(&vm.heap).proto.get(&vm.heap).framesize as usize;
        vm.set_top_ptr(base.wrapping_add(size));
    }
}

/// Copies a few values to a place that does not lie inside them, or below them. A loop: a call of `memmove` costs more.
///
/// # Safety
/// `from` and `to` are slots of Lua stacks with `n` values; where they overlap, `to` lies below `from`.
#[inline(always)]
pub(crate) unsafe fn move_values(from: *const Value, to: *mut Value, n: usize) {
    let mut i = 0;
    while i < n {
        // SAFETY: the caller's promise.
        unsafe { super::dispatch::put(to.add(i), *from.add(i)) };
        i += 1;
    }
}

/// Room for `n` slots above `top`, with the position in errors that of the current frame.
#[inline(always)]
pub(crate) fn need(vm: &mut Vm, n: usize) -> Result<(), Raised> {
    let t = vm.cur.get(&vm.heap);
    if t.top.wrapping_add(n) <= t.maxstack { Ok(()) } else { vm.ensure_slots(n) }
}

/// Calls a metamethod from an instruction: a CONT frame above the current one. `cont` is the word of
/// [`frame::Cont`].
pub(crate) fn call_meta(vm: &mut Vm, cont: u64, f: Value, args: &[Value]) -> HelperResult {
    sync_top(vm);
    push_cont(vm, cont, f, args)
}

/// As [`call_meta`], above the current top.
pub(crate) fn push_cont(vm: &mut Vm, cont: u64, f: Value, args: &[Value]) -> HelperResult {
    need(vm, CONT_SLOTS + args.len() + 1)?;
    let (base, top) = (vm.base(), vm.top());
    let nb = top.wrapping_add(CONT_SLOTS);
    let delta = (nb as usize - base as usize) / std::mem::size_of::<Value>();
    // SAFETY: there is room for the header and the arguments.
    unsafe {
        *nb.sub(4) = frame::raw(cont);
        *nb.sub(3) = frame::raw(vm.pc as u64);
        *nb.sub(2) = f;
        *nb.sub(1) = frame::raw(frame::link(delta, FrameType::Cont));
        move_values(args.as_ptr(), nb, args.len());
    }
    begin_call(vm, nb, args.len())
}

/// Makes the frame at `nb`, with its function and link in place, the current one; resolves `__call`.
#[inline(always)]
pub(crate) fn begin_call(vm: &mut Vm, nb: *mut Value, nargs: usize) -> HelperResult {
    // SAFETY: `nb[-2]` is the called value.
    let f = unsafe { *nb.sub(2) };
    if !f.is::<Func>() {
        return begin_call_meta(vm, nb, nargs, f);
    }
    vm.set_base(nb);
    vm.call_nargs = nargs;
    Ok(CALL)
}

#[cold]
#[inline(never)]
fn begin_call_meta(vm: &mut Vm, nb: *mut Value, nargs: usize, f: Value) -> HelperResult {
    let mm = vm.metamethod(f, Mm::Call);
    if !mm.is::<Func>() {
        let text = msg::fill(msg::BAD_OPERAND, &[msg::OP_CALL.as_bytes(), f.type_name().as_bytes()]);
        // The callee's frame, which has no function, hides the position.
        vm.set_base(nb);
        vm.set_top_ptr(nb.wrapping_add(nargs));
        return Err(vm.throw_plain(&text));
    }
    // The called value becomes the first argument.
    let index = {
        let t = vm.cur.get(&vm.heap);
        (nb as usize - t.stack as usize) / std::mem::size_of::<Value>()
    };
    vm.set_top_ptr(nb.wrapping_add(nargs));
    vm.ensure_slots(1)?;
    let nb = vm.cur.get(&vm.heap).stack.wrapping_add(index);
    // SAFETY: there is room for one more argument.
    unsafe {
        std::ptr::copy(nb, nb.add(1), nargs);
        *nb = f;
        *nb.sub(2) = mm;
    }
    vm.set_base(nb);
    vm.call_nargs = nargs + 1;
    Ok(CALL)
}
