//! Errors on their way down the frames; `pcall` and `xpcall`.

use super::coroutine::fail;
use super::dispatch::{EXIT_ERROR, HelperResult, NATIVE, enter_func, helper, next, resume, tail};
use super::meta::{begin_call, push_cont};
use super::ret::do_return;
use crate::bytecode::instr::Instr;
use crate::error::messages as msg;
use crate::function::closure::Func;
use crate::state::Vm;
use crate::state::native::Entry;
use crate::thread::frame::{self, Cont, FrameType, LINK_CORO, LINK_RUN, PCALL_DELTA, XPCALL_DELTA};
use crate::value::Value;

helper!(
    #[cold]
    pcall_slow = pcall
);
helper!(
    #[cold]
    xpcall_slow = xpcall
);

/// `pcall` when the fast path refused: no argument, no room, or the function is not one.
fn pcall(vm: &mut Vm, _a: usize, d: usize) -> HelperResult {
    let n = d - 1;
    vm.native_nargs = n;
    let base = vm.base();
    vm.set_top_ptr(base.wrapping_add(n));
    vm.check_any(0)?;
    vm.ensure_slots(2)?;
    let base = vm.base();
    let nb = base.wrapping_add(2);
    // SAFETY: there is room for the shifted arguments.
    unsafe {
        std::ptr::copy(base.add(1), base.add(2), n - 1);
        *nb.sub(1) = frame::raw(frame::link(PCALL_DELTA, FrameType::Pcall));
    }
    // An error of the call itself is caught as well.
    vm.set_base(nb);
    vm.set_top_ptr(nb.wrapping_add(n - 1));
    begin_call(vm, nb, n - 1)
}

/// `xpcall` when the fast path refused.
fn xpcall(vm: &mut Vm, _a: usize, d: usize) -> HelperResult {
    let n = d - 1;
    vm.native_nargs = n;
    let base = vm.base();
    vm.set_top_ptr(base.wrapping_add(n));
    vm.check_any(0)?;
    vm.check_func(1)?;
    vm.ensure_slots(2)?;
    let base = vm.base();
    let nb = base.wrapping_add(3);
    // SAFETY: there is room for the shifted arguments.
    unsafe {
        std::ptr::copy(base.add(2), base.add(3), n - 2);
        std::ptr::swap(base, base.add(1));
        *nb.sub(1) = frame::raw(frame::link(XPCALL_DELTA, FrameType::Xpcall));
    }
    vm.set_base(nb);
    vm.set_top_ptr(nb.wrapping_add(n - 2));
    begin_call(vm, nb, n - 2)
}

/// Finds who catches the pending error.
pub(crate) fn unwind(vm: &mut Vm) -> HelperResult {
    let no_handler = std::mem::take(&mut vm.no_handler);
    search(vm, no_handler)
}

/// The message handler returned: its result is the error value.
pub(crate) fn handled(vm: &mut Vm, v: Value) -> HelperResult {
    vm.err = v;
    search(vm, true)
}

fn search(vm: &mut Vm, mut handler_done: bool) -> HelperResult {
    vm.abort_recording();
    let mut b = vm.base();
    loop {
        // SAFETY: frames are linked as `thread::frame` describes.
        let link = unsafe { (*b.sub(1)).0 };
        if frame::is_lua(link) {
            // SAFETY: a return pc points behind a call instruction.
            let call = Instr(unsafe { *(link as *const u32).sub(1) });
            b = b.wrapping_sub(2 + call.a() as usize);
            continue;
        }
        let delta = frame::delta(link);
        match link {
            LINK_RUN => {
                // SAFETY: a run has its handler in the slot below its distance.
                let handler = unsafe { *b.sub(4) };
                if !handler_done && handler.is::<Func>() && !nested_handler(vm) {
                    return call_handler(vm, handler);
                }
                vm.cur.get_mut(&mut vm.heap).handling = false;
                vm.cur.close_upvals(&mut vm.heap, b);
                return Ok(EXIT_ERROR);
            }
            LINK_CORO => {
                match fail(vm)? {
                    Some((base, from, n)) => return do_return(vm, base, from, n),
                    // A wrapped coroutine: the error goes on in its resumer.
                    None if vm.exit_now => return Ok(EXIT_ERROR),
                    None => {
                        b = vm.base();
                        handler_done = false;
                    }
                }
                continue;
            }
            _ => {}
        }
        let ty = frame::type_bits(link);
        if ty == FrameType::Pcall as u64 {
            return caught(vm, b);
        }
        if ty == FrameType::Xpcall as u64 {
            if !handler_done && !nested_handler(vm) {
                // SAFETY: `xpcall` keeps its handler there.
                let handler = unsafe { *b.sub(3) };
                return call_handler(vm, handler);
            }
            return caught(vm, b);
        }
        if ty == FrameType::Cont as u64 {
            // SAFETY: a CONT frame has its id there.
            let word = unsafe { (*b.sub(4)).0 };
            if Cont::from_word(word) == Some(Cont::Hook) {
                vm.leave_hook();
                vm.hook.stage = 0;
            }
        }
        b = b.wrapping_sub(delta);
    }
}

/// Whether a message handler is running already: then the error becomes another one and meets no handler.
fn nested_handler(vm: &mut Vm) -> bool {
    if vm.cur.get(&vm.heap).handling {
        error_in_error(vm);
        return true;
    }
    false
}

fn error_in_error(vm: &mut Vm) {
    let s = vm.heap.str(msg::ERROR_IN_ERROR.as_bytes());
    vm.err = Value::obj(s);
}

/// Calls the message handler above the frame that raised the error.
fn call_handler(vm: &mut Vm, handler: Value) -> HelperResult {
    let err = vm.take_error();
    vm.cur.get_mut(&mut vm.heap).handling = true;
    // A frame that could not be built has its arguments above top: nothing there is needed any more.
    super::meta::sync_top(vm);
    match push_cont(vm, Cont::ErrHandler as u64, handler, &[err]) {
        Ok(act) => Ok(act),
        Err(_) => search(vm, true),
    }
}

/// The frame at `b` was called protected: its caller goes on with the error value.
fn caught(vm: &mut Vm, b: *mut Value) -> HelperResult {
    vm.cur.get_mut(&mut vm.heap).handling = false;
    vm.cur.close_upvals(&mut vm.heap, b.wrapping_sub(2));
    let stack = vm.cur.get(&vm.heap).stack;
    let index = (b as usize - stack as usize) / std::mem::size_of::<Value>();
    vm.set_base(b);
    vm.set_top_ptr(b);
    vm.cur.relimit_stack(&mut vm.heap);
    vm.sync_stack_limit();
    let mut b = vm.cur.get(&vm.heap).stack.wrapping_add(index);
    let mut err = vm.take_error();
    if vm.heap.gc_due() {
        // A loop of failing calls may meet no other safepoint. The error value waits in the frame.
        // SAFETY: the frame had at least one slot.
        unsafe { *b = err };
        vm.set_top_ptr(b.wrapping_add(1));
        let r = vm.safepoint();
        b = vm.cur.get(&vm.heap).stack.wrapping_add(index);
        // SAFETY: as above.
        err = if r.is_err() { vm.take_error() } else { unsafe { *b } };
    }
    // SAFETY: `b` is the base of a PCALL or XPCALL frame with its header below.
    unsafe {
        let link = (*b.sub(1)).0;
        let delta = frame::delta(link);
        let prev = b.sub(delta);
        if frame::type_bits(link) == FrameType::Pcall as u64 && delta != PCALL_DELTA {
            let label = (*b.sub(3)).0 as u32;
            let to = b.sub(4);
            *to = err;
            vm.set_base(prev);
            vm.set_top_ptr(to.add(1));
            vm.native_nargs = (to as usize - prev as usize) / std::mem::size_of::<Value>();
            vm.entry = Entry::failed(label);
            return Ok(NATIVE);
        }
        *b.sub(2) = Value::FALSE;
        *b.sub(1) = err;
        do_return(vm, prev, b.sub(2), 2)
    }
}
